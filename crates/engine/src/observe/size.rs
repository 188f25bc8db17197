//! How much a record keeps: what waits for destinations is bounded by it.

use http::HeaderValue;

use super::record::CallRecord;

impl CallRecord {
    /// About so many bytes it keeps.
    pub fn size(&self) -> usize {
        let lists = [
            size_of_val(&*self.attempts),
            size_of_val(&*self.passed_over),
            size_of_val(&*self.guards),
            size_of_val(&*self.choices),
            size_of_val(&*self.transformed.losses),
            size_of_val(&*self.transformed.altered),
            size_of_val(&*self.transformed.rules),
            size_of_val(&*self.limits),
            size_of_val(&*self.considered),
        ];
        let losses = self.transformed.losses.iter().map(|loss| loss.0.len());
        let rules = self.transformed.rules.iter().map(String::len);
        let client = self.client.as_ref().map_or(0, HeaderValue::len);
        let texts = client + self.id.len() + self.model.len() + self.attribution.size();
        size_of::<Self>() + lists.iter().sum::<usize>() + losses.chain(rules).sum::<usize>() + texts
    }
}
