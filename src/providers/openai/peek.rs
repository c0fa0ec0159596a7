//! A cheap look at one stream chunk: enough to say that it can go to the client as the bytes that came.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The form of a value, without the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::providers) enum Shape {
    /// The key is not there.
    #[default]
    Missing,
    Null,
    /// A number from 0 upwards.
    Count(u64),
    /// A text of so many bytes.
    Text(usize),
    /// Anything else. `true` when there is something inside.
    Other(bool),
}

/// A text, or what stands in its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// The key is not there.
    #[default]
    Missing,
    Null,
    Text(Cow<'a, str>),
    Other,
}

/// One chunk of a stream.
#[derive(Debug, Default)]
pub(super) struct ChunkPeek<'a> {
    pub(super) id: Word<'a>,
    pub(super) object: Word<'a>,
    pub(super) created: Shape,
    pub(super) model: Word<'a>,
    pub(super) usage: Shape,
    pub(super) tier: Word<'a>,
    pub(super) error: Shape,
    /// llama.cpp's, which stand in for usage.
    pub(super) timings: Shape,
    /// `x_groq.usage` or `x_groq.error` is there.
    pub(super) groq_speaks: bool,
    /// Number of choices, and the first of them.
    pub(super) choices: usize,
    pub(super) choice: ChoicePeek<'a>,
}

/// One choice of a chunk.
#[derive(Debug, Default)]
pub(super) struct ChoicePeek<'a> {
    pub(super) index: Shape,
    pub(super) finish: Word<'a>,
    /// `message`, `usage` or `error` is there, where none is due.
    pub(super) strange: bool,
    pub(super) delta: Option<DeltaPeek<'a>>,
}

/// The delta of a choice.
#[derive(Debug, Default)]
pub(super) struct DeltaPeek<'a> {
    pub(super) role: Word<'a>,
    pub(super) content: Shape,
    pub(super) reasoning: Shape,
    pub(super) reasoning_content: Shape,
    pub(super) refusal: Shape,
    /// `tool_calls` is there; how many, and the first of them.
    pub(super) has_calls: bool,
    pub(super) calls: usize,
    pub(super) call: CallPeek<'a>,
    /// A field that we do not know says something.
    pub(super) others: bool,
}

/// A tool call of a delta.
#[derive(Debug, Default)]
pub(super) struct CallPeek<'a> {
    pub(super) index: Shape,
    pub(super) id: Word<'a>,
    pub(super) kind: Word<'a>,
    pub(super) name: Word<'a>,
    pub(super) arguments: Shape,
    /// Not a function call.
    pub(super) strange: bool,
}

impl Shape {
    /// Nothing is said.
    pub(super) fn is_unsaid(self) -> bool {
        matches!(self, Self::Missing | Self::Null)
    }

    /// A text, or nothing.
    pub(super) fn is_texty(self) -> bool {
        matches!(self, Self::Missing | Self::Null | Self::Text(_))
    }

    /// Bytes of text.
    pub(super) fn bytes(self) -> u64 {
        if let Self::Text(bytes) = self { bytes as u64 } else { 0 }
    }
}

impl Word<'_> {
    /// The text, if it is one that says something.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Null)
            }
            fn visit_u64<E>(self, n: u64) -> Result<Shape, E> {
                Ok(Shape::Count(n))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Other(true))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Other(true))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Other(false))
            }
            fn visit_str<E>(self, text: &str) -> Result<Shape, E> {
                Ok(Shape::Text(text.len()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut any = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Shape::Other(any))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut any = false;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    any = true;
                }
                Ok(Shape::Other(any))
            }
        }
        deserializer.deserialize_any(Look)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Look<'a> {
            type Value = Word<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }
            fn visit_unit<E>(self) -> Result<Word<'a>, E> {
                Ok(Word::Null)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Word<'a>, E> {
                Ok(Word::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Word<'a>, E> {
                Ok(Word::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Word<'a>, E> {
                Ok(Word::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Word<'a>, E> {
                Ok(Word::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Word<'a>, E> {
                Ok(Word::Other)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Word<'a>, E> {
                Ok(Word::Other)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Word<'a>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Word::Other)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word<'a>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word::Other)
            }
        }
        deserializer.deserialize_any(Look(PhantomData))
    }
}

/// A key, borrowed unless it has escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Word::deserialize(deserializer)? {
            Word::Text(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("a key that is no text")),
        }
    }
}

/// Reads an object field by field, each by the arm of its name.
macro_rules! read_object {
    ($type:ident, $peek:ident, $map:ident, { $($key:pat => $read:expr,)* }) => {
        impl<'de: 'a, 'a> Deserialize<'de> for $type<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Look<'a>(PhantomData<&'a ()>);
                impl<'de: 'a, 'a> Visitor<'de> for Look<'a> {
                    type Value = $type<'a>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$type<'a>, A::Error> {
                        let mut $peek = $type::default();
                        while let Some(key) = $map.next_key::<Key<'de>>()? {
                            match &*key.0 { $($key => $read,)* }
                        }
                        Ok($peek)
                    }
                }
                deserializer.deserialize_map(Look(PhantomData))
            }
        }
    };
}

read_object!(ChunkPeek, peek, map, {
    "id" => peek.id = map.next_value()?,
    "object" => peek.object = map.next_value()?,
    "created" => peek.created = map.next_value()?,
    "model" => peek.model = map.next_value()?,
    "usage" => peek.usage = map.next_value()?,
    "service_tier" => peek.tier = map.next_value()?,
    "error" => peek.error = map.next_value()?,
    "timings" => peek.timings = map.next_value()?,
    "x_groq" => peek.groq_speaks = map.next_value::<Groq>()?.0,
    "choices" => {
        let (count, first) = map.next_value::<First<ChoicePeek<'de>>>()?.split();
        peek.choices = count;
        peek.choice = first;
    },
    _ => { map.next_value::<IgnoredAny>()?; },
});

read_object!(ChoicePeek, peek, map, {
    "index" => peek.index = map.next_value()?,
    "finish_reason" => peek.finish = map.next_value()?,
    "delta" => peek.delta = map.next_value()?,
    "message" | "usage" | "error" => peek.strange |= !map.next_value::<Shape>()?.is_unsaid(),
    _ => { map.next_value::<IgnoredAny>()?; },
});

read_object!(DeltaPeek, peek, map, {
    "content" => peek.content = map.next_value()?,
    "role" => peek.role = map.next_value()?,
    "reasoning" => peek.reasoning = map.next_value()?,
    "reasoning_content" => peek.reasoning_content = map.next_value()?,
    "refusal" => peek.refusal = map.next_value()?,
    "tool_calls" => {
        peek.has_calls = true;
        let (count, first) = map.next_value::<First<CallPeek<'de>>>()?.split();
        peek.calls = count;
        peek.call = first;
    },
    _ => peek.others |= matches!(map.next_value::<Shape>()?, Shape::Text(1..) | Shape::Other(true)),
});

read_object!(CallPeek, peek, map, {
    "index" => peek.index = map.next_value()?,
    "id" => peek.id = map.next_value()?,
    "type" => peek.kind = map.next_value()?,
    "function" => {
        let function = map.next_value::<FunctionPeek<'de>>()?;
        peek.name = function.name;
        peek.arguments = function.arguments;
    },
    "custom" => {
        peek.strange = true;
        map.next_value::<IgnoredAny>()?;
    },
    _ => { map.next_value::<IgnoredAny>()?; },
});

#[derive(Debug, Default)]
struct FunctionPeek<'a> {
    name: Word<'a>,
    arguments: Shape,
}

read_object!(FunctionPeek, peek, map, {
    "name" => peek.name = map.next_value()?,
    "arguments" => peek.arguments = map.next_value()?,
    _ => { map.next_value::<IgnoredAny>()?; },
});

/// Whether Groq's extra object has usage or an error in it.
#[derive(Default)]
struct Groq(bool);

impl<'de> Deserialize<'de> for Groq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize, Default)]
        #[serde(default)]
        struct Inner {
            usage: Shape,
            error: Shape,
        }
        Ok(Self(
            Option::<Inner>::deserialize(deserializer)?
                .is_some_and(|inner| !inner.usage.is_unsaid() || !inner.error.is_unsaid()),
        ))
    }
}

/// The first element of a list, and how many there are. `null` is an empty list.
struct First<T> {
    count: usize,
    first: Option<T>,
}

impl<T: Default> First<T> {
    fn split(self) -> (usize, T) {
        (self.count, self.first.unwrap_or_default())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Look<T> {
            type Value = First<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E>(self) -> Result<First<T>, E> {
                Ok(First { count: 0, first: None })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
                let first = seq.next_element::<T>()?;
                let mut count = usize::from(first.is_some());
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(First { count, first })
            }
        }
        deserializer.deserialize_any(Look(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_sees_what_decides() {
        let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","usage":null,
            "choices":[{"index":2,"delta":{"role":"assistant","content":"h\u00e9","x":[],
            "tool_calls":[{"index":0,"id":"i","type":"function","function":{"name":"n","arguments":"{}"}}]},
            "finish_reason":null}],"x_groq":{"id":"r"}}"#;
        let peek: ChunkPeek<'_> = serde_json::from_str(chunk).unwrap();
        assert_eq!(peek.id.text(), Some("c"));
        assert_eq!((peek.choices, peek.choice.index, &peek.choice.finish), (1, Shape::Count(2), &Word::Null));
        let delta = peek.choice.delta.unwrap();
        assert_eq!((delta.content, delta.calls, delta.others), (Shape::Text(3), 1, false));
        assert_eq!(delta.call.arguments, Shape::Text(2));
        assert!(!peek.groq_speaks && peek.usage == Shape::Null);
    }

    #[test]
    fn what_is_of_another_form_is_an_error_and_goes_the_long_way() {
        for chunk in ["[]", r#"{"choices":1}"#, r#"{"choices":["x"]}"#, r#"{"choices":[{"delta":[]}]}"#] {
            assert!(serde_json::from_str::<ChunkPeek<'_>>(chunk).is_err(), "{chunk}");
        }
    }
}
