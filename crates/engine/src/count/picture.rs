//! What pictures cost, as their vendors publish it: by their size, which the first bytes of their files say.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use polygate_providers::family::Pictures;
#[cfg(test)]
use polygate_wire::canon::Given;
use polygate_wire::canon::{Media, MediaSource};

/// The beginning of a file ends anywhere.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A picture that nobody here can see is taken for one of this size.
const USUAL: Size = Size {
    width: 1024,
    height: 768,
};

/// So much of a file is looked at for its size: cameras write a lot before it.
const HEAD: usize = 96 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    width: u64,
    height: u64,
}

/// What a picture costs.
pub(super) fn tokens(pictures: Pictures, media: &Media) -> u64 {
    let is_low = media
        .detail
        .as_ref()
        .is_some_and(|detail| detail.value == "low");
    let size = size(&media.source).unwrap_or(USUAL);
    match pictures {
        Pictures::Tiles { base, .. } if is_low => base,
        Pictures::Tiles { base, tile } => {
            let size = size.within(2048, 768);
            base + tile * size.width.div_ceil(512) * size.height.div_ceil(512)
        }
        Pictures::Patches(each) => {
            let patches = size
                .width
                .div_ceil(32)
                .saturating_mul(size.height.div_ceil(32));
            patches.min(1536) * each / 1000
        }
        Pictures::Area { side, most } => {
            let size = size.within(side, side);
            (size.width * size.height / 750).clamp(1, most)
        }
        Pictures::Crops => 258 * size.crops(),
        Pictures::Flat(each) => each,
    }
}

impl Size {
    /// Made smaller in proportion, where it is larger.
    fn within(self, long: u64, short: u64) -> Self {
        let Size { width, height } = self;
        let once = self.shrunk(width.max(height), long);
        once.shrunk(once.width.min(once.height), short)
    }

    fn shrunk(self, side: u64, most: u64) -> Self {
        if side <= most {
            return self;
        }
        let scaled = |length: u64| (length.saturating_mul(most) / side).max(1);
        Self {
            width: scaled(self.width),
            height: scaled(self.height),
        }
    }

    /// Google cuts what is larger than 384 × 384 into squares of two thirds of the short side, of 256 to 768.
    fn crops(self) -> u64 {
        if self.width <= 384 && self.height <= 384 {
            return 1;
        }
        let unit = (self.width.min(self.height) * 2 / 3).clamp(256, 768);
        let crops = self
            .width
            .div_ceil(unit)
            .saturating_mul(self.height.div_ceil(unit));
        // Larger pictures are scaled down first.
        crops.min(64)
    }
}

/// The size of a picture that came along.
fn size(source: &MediaSource) -> Option<Size> {
    let MediaSource::Base64(data) = source else {
        return None;
    };
    // Four characters are three bytes.
    let head = data.as_bytes().get(..HEAD.min(data.len() / 4 * 4))?;
    let size = imagesize::blob_size(&LENIENT.decode(head).ok()?).ok()?;
    let side = |length: usize| (1..1 << 20).contains(&length).then_some(length as u64);
    Some(Size {
        width: side(size.width)?,
        height: side(size.height)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a PNG of this size.
    fn png(width: u32, height: u32) -> Media {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 6, 0, 0, 0]);
        Media {
            source: MediaSource::Base64(LENIENT.encode(bytes)),
            ..Media::default()
        }
    }

    const TILES: Pictures = Pictures::Tiles {
        base: 85,
        tile: 170,
    };
    const AREA: Pictures = Pictures::Area {
        side: 1568,
        most: 1600,
    };

    /// The first four are the examples of OpenAI's, Anthropic's and Google's own pages.
    #[test]
    fn pictures_cost_what_their_vendors_say() {
        for (pictures, width, height, tokens) in [
            (TILES, 1024, 1024, 765),
            (TILES, 2048, 4096, 1105),
            (AREA, 1000, 1000, 1333),
            (Pictures::Crops, 960, 540, 6 * 258),
            (TILES, 100, 100, 255),
            (Pictures::Patches(1000), 1024, 1024, 1024),
            (Pictures::Patches(2460), 4000, 4000, 1536 * 2460 / 1000),
            (AREA, 200, 200, 53),
            (AREA, 8000, 8000, 1600),
            (AREA, 1, 1, 1),
            (Pictures::Crops, 384, 384, 258),
            (Pictures::Flat(1120), 9, 9, 1120),
            (TILES, 1_000_000, 1, 85 + 4 * 170),
        ] {
            assert_eq!(
                super::tokens(pictures, &png(width, height)),
                tokens,
                "{pictures:?} {width} {height}"
            );
        }
    }

    #[test]
    fn low_detail_costs_the_base_and_what_is_not_seen_the_usual() {
        let mut low = png(2048, 2048);
        low.detail = Some(Given::new("low".to_owned(), "/"));
        assert_eq!(super::tokens(TILES, &low), 85);
        for source in [
            MediaSource::Url("https://example.com/a.png".to_owned()),
            MediaSource::Base64("iVBORw0KGgo=".to_owned()),
            MediaSource::Base64("not base64!".to_owned()),
            MediaSource::Base64(String::new()),
        ] {
            let media = Media {
                source,
                ..Media::default()
            };
            assert_eq!(super::tokens(TILES, &media), 765, "{media:?}");
        }
    }
}
