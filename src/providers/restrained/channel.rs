//! Texts looked for in what comes piece by piece: what may yet become one of them is held back, and nothing else.

use std::sync::Arc;

/// A text that is looked for, and what follows.
#[derive(Clone)]
pub(super) struct Needle {
    pub(super) text: Arc<str>,
    pub(super) then: Then,
}

/// What follows when a text was found.
#[derive(Clone)]
pub(super) enum Then {
    /// Everything ends before it.
    Stop,
    /// This stands in its place.
    Say(Arc<str>),
}

/// One run of text.
#[derive(Default)]
pub(super) struct Channel {
    held: String,
}

impl Channel {
    /// Takes more text, and gives what may go out; and the text before which it ended, if it has.
    pub(super) fn feed(&mut self, needles: &[Needle], more: &str) -> (String, Option<Arc<str>>) {
        let text = if self.held.is_empty() {
            more.to_owned()
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.push_str(more);
            text
        };
        let (mut out, mut rest) = (String::with_capacity(text.len()), &text[..]);
        while let Some((at, needle)) = first(needles, rest) {
            out.push_str(&rest[..at]);
            rest = &rest[at + needle.text.len()..];
            match &needle.then {
                Then::Stop => return (out, Some(needle.text.clone())),
                Then::Say(instead) => out.push_str(instead),
            }
        }
        let (free, held) = rest.split_at(rest.len() - beginning(needles, rest));
        out.push_str(free);
        held.clone_into(&mut self.held);
        (out, None)
    }

    /// No more will come: what was held back.
    pub(super) fn end(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The first of the needles that stands in the text; of two at one place, the longer.
fn first<'n>(needles: &'n [Needle], text: &str) -> Option<(usize, &'n Needle)> {
    let found = needles.iter().filter_map(|needle| Some((text.find(&*needle.text)?, needle)));
    found.min_by_key(|(at, needle)| (*at, usize::MAX - needle.text.len()))
}

/// Bytes at the end of the text that may be the beginning of a needle.
fn beginning(needles: &[Needle], text: &str) -> usize {
    let longest = |needle: &Needle| {
        let sizes = (1..needle.text.len()).rev().filter(|size| needle.text.is_char_boundary(*size));
        sizes.into_iter().find(|size| text.ends_with(&needle.text[..*size])).unwrap_or(0)
    };
    needles.iter().map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles() -> Vec<Needle> {
        let stop = |text: &str| Needle { text: text.into(), then: Then::Stop };
        let say = |text: &str, instead: &str| Needle { text: text.into(), then: Then::Say(instead.into()) };
        vec![stop("END"), stop("ENDE!"), stop("état"), say("[EMAIL_1]", "ann@example.com")]
    }

    fn whole(pieces: &[&str]) -> (String, Option<Arc<str>>) {
        let (needles, mut channel, mut all) = (needles(), Channel::default(), String::new());
        for piece in pieces {
            let (out, stopped) = channel.feed(&needles, piece);
            all.push_str(&out);
            if stopped.is_some() {
                return (all, stopped);
            }
        }
        all.push_str(&channel.end());
        (all, None)
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        for text in [
            "no needle",
            "a EN b END c",
            "an ét and an état",
            "to [EMAIL_1], [EMAIL_2",
            "EEND",
            "x ENDE! y",
            "[[",
        ] {
            let expected = whole(&[text]);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            let by_letter = whole(&letters);
            assert_eq!(by_letter.0, expected.0, "{text}");
            for (cut, _) in text.char_indices() {
                let (a, b) = text.split_at(cut);
                assert_eq!(whole(&[a, b]).0, expected.0, "{a}|{b}");
            }
        }
        assert_eq!(whole(&["a EN b END c"]).0, "a EN b ");
        assert_eq!(whole(&["to [EMAIL_1]."]).0, "to ann@example.com.");
    }
}
