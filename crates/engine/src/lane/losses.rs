//! What translation lost, as a header says it.

use std::borrow::Cow;

use polygate_wire::Loss;

/// The most names of losses that are shown, and the most of their text; then how many more.
const LOSSES_SHOWN: usize = 32;
const LOSSES_TEXT: usize = 4096;

/// The `x-polygate-dropped` header's text: JSON pointers, in their form for addresses where they hold what headers cannot.
pub fn dropped(losses: &[Loss]) -> Option<String> {
    let mut text = String::new();
    let mut shown = 0;
    for Loss(pointer) in losses.iter().take(LOSSES_SHOWN) {
        let pointer = escaped(pointer);
        if text.len() + pointer.len() > LOSSES_TEXT {
            break;
        }
        if shown > 0 {
            text.push_str(", ");
        }
        text.push_str(&pointer);
        shown += 1;
    }
    match losses.len() - shown {
        0 if losses.is_empty() => return None,
        0 => {}
        more if shown == 0 => text.push_str(&format!("{more} members")),
        more => text.push_str(&format!(", and {more} more")),
    }
    Some(text)
}

/// Names of members are the client's: they may hold anything.
fn escaped(pointer: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b',');
    if pointer.bytes().all(is_plain) {
        return Cow::Borrowed(pointer);
    }
    let mut out = String::with_capacity(pointer.len() + 16);
    for byte in pointer.bytes() {
        if is_plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pointers: &[&str]) -> Option<String> {
        let losses = pointers.iter().map(|pointer| Loss((*pointer).to_owned()));
        dropped(&losses.collect::<Vec<_>>())
    }

    #[test]
    fn losses_are_named_whatever_they_are_called() {
        let long = format!("/{}", "x".repeat(5000));
        for (pointers, text) in [
            (vec![], None),
            (vec!["/seed", "/n"], Some("/seed, /n")),
            (vec!["/a,b\r\nc", "/é%"], Some("/a%2Cb%0D%0Ac, /%C3%A9%25")),
            (vec!["/seed", long.as_str()], Some("/seed, and 1 more")),
            (vec![long.as_str()], Some("1 members")),
        ] {
            assert_eq!(shown(&pointers).as_deref(), text);
        }
        let many: Vec<String> = (0..40).map(|at| format!("/{at}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(shown(&many).is_some_and(|text| text.ends_with("/31, and 8 more")));
    }
}
