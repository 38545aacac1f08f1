//! Splitting: the executions of a batch, and the input out of a submission that streams by.

use super::grammar::{Grammar, Part, Unexpected};
use super::members::INPUT;
use crate::json_body;
use crate::problem::{Kind, Problem};
use roadstead_domain::decode::{Errors, pointer, unknown_field};
use roadstead_domain::document::TWICE;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::ops::Range;

const EXECUTIONS: &str = "executions";
/// More are counted, not kept.
const MAX_KEPT: usize = super::MAX_BATCH + 1;

/// The texts of a batch's executions; of far too many, one more than is accepted.
pub fn batch(text: &str) -> Result<Vec<&RawValue>, Problem> {
    let members: Batch<'_> = serde_json::from_str(text).map_err(|error| json_body::invalid(&error))?;
    members.errors.into_result(()).map_err(Problem::fields)?;
    match members.executions {
        Some(Items::Array(items)) => Ok(items),
        Some(Items::Other(kind)) => Err(Problem::field("/executions", format!("must be an array, not {kind}"))),
        None => Err(Problem::field("/executions", "is missing")),
    }
}

#[derive(Default)]
struct Batch<'a> {
    executions: Option<Items<'a>>,
    errors: Errors,
}

impl<'de: 'a, 'a> Deserialize<'de> for Batch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Batch<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with the member `executions`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Batch<'de>, A::Error> {
                let mut batch = Batch::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name != EXECUTIONS {
                        map.next_value::<IgnoredAny>()?;
                        batch.errors.push(pointer("", &name), unknown_field(&name, &[EXECUTIONS]));
                    } else if batch.executions.replace(map.next_value()?).is_some() {
                        batch.errors.push(pointer("", &name), TWICE);
                    }
                }
                Ok(batch)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

enum Items<'a> {
    Array(Vec<&'a RawValue>),
    /// What it is instead.
    Other(&'static str),
}

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;
        impl<'de> Visitor<'de> for Kept {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Items<'de>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX_KEPT {
                    let Some(item) = seq.next_element()? else { return Ok(Items::Array(items)) };
                    items.push(item);
                }
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Items::Array(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Items<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Items::Other("an object"))
            }

            fn visit_str<E>(self, _: &str) -> Result<Items<'de>, E> {
                Ok(Items::Other("a string"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Items<'de>, E> {
                Ok(Items::Other("a number"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Items<'de>, E> {
                Ok(Items::Other("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Items<'de>, E> {
                Ok(Items::Other("a number"))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Items<'de>, E> {
                Ok(Items::Other("a boolean"))
            }

            fn visit_unit<E>(self) -> Result<Items<'de>, E> {
                Ok(Items::Other("null"))
            }
        }
        deserializer.deserialize_any(Kept)
    }
}

/// Takes the input out of a submission that comes in pieces, and keeps the rest of it, with `null` in the input's place.
#[derive(Debug)]
pub struct Splitter {
    grammar: Grammar,
    max_others_bytes: usize,
    others: Vec<u8>,
    name: Vec<u8>,
    /// Of the byte before.
    part: Part,
    in_input: bool,
    had_input: bool,
    offset: u64,
}

/// The longest that `"input"` can be written: every character as `\uXXXX`.
const MAX_INPUT_NAME_BYTES: usize = 2 + 6 * INPUT.len();

impl Splitter {
    pub fn new(max_others_bytes: usize) -> Self {
        Self {
            grammar: Grammar::default(),
            max_others_bytes,
            others: Vec::new(),
            name: Vec::new(),
            part: Part::Frame,
            in_input: false,
            had_input: false,
            offset: 0,
        }
    }

    /// Answers which bytes of the piece are of the input, in order.
    pub fn feed(&mut self, piece: &[u8]) -> Result<Vec<Range<usize>>, Problem> {
        let mut input: Vec<Range<usize>> = Vec::new();
        let mut at = 0;
        while at < piece.len() {
            let run = self.grammar.plain_run(&piece[at..]);
            if run == 0 {
                let part = self.grammar.step(piece[at]).map_err(|Unexpected| self.unexpected(at))?;
                self.enter(part)?;
            }
            let end = at + run.max(1);
            self.take(piece, at..end, &mut input)?;
            at = end;
        }
        self.offset += piece.len() as u64;
        Ok(input)
    }

    fn enter(&mut self, part: Part) -> Result<(), Problem> {
        match (self.part, part) {
            (Part::Name, Part::Name) | (Part::Value, Part::Value) | (Part::Frame, Part::Frame) => {}
            (_, Part::Name) => self.name.clear(),
            (_, Part::Value) => {
                self.in_input = self.name_is_input();
                if self.in_input {
                    if self.had_input {
                        return Err(Problem::field("/input", TWICE));
                    }
                    self.had_input = true;
                    self.others.extend_from_slice(b"null");
                }
            }
            (_, Part::Frame) => self.in_input = false,
        }
        self.part = part;
        Ok(())
    }

    fn take(&mut self, piece: &[u8], range: Range<usize>, input: &mut Vec<Range<usize>>) -> Result<(), Problem> {
        if self.in_input {
            match input.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => input.push(range),
            }
            return Ok(());
        }
        let bytes = &piece[range];
        if self.part == Part::Name && self.name.len() <= MAX_INPUT_NAME_BYTES {
            self.name.extend_from_slice(bytes);
        }
        if self.others.len() + bytes.len() > self.max_others_bytes {
            let max = self.max_others_bytes;
            return Err(Problem::new(
                Kind::TooLarge,
                format!("a submission without its input may have {max} bytes at most"),
            ));
        }
        self.others.extend_from_slice(bytes);
        Ok(())
    }

    fn name_is_input(&self) -> bool {
        self.name.len() <= MAX_INPUT_NAME_BYTES
            && serde_json::from_slice::<String>(&self.name).is_ok_and(|name| name == INPUT)
    }

    /// The submission without its input, if it was whole; and whether there was an input.
    pub fn finish(self) -> Result<(String, bool), Problem> {
        if !self.grammar.is_complete() {
            return Err(Problem::new(
                Kind::InvalidJson,
                format!("the body is not valid JSON: it ends early, at byte {}", self.offset),
            ));
        }
        let others = String::from_utf8(self.others).map_err(Problem::internal)?;
        Ok((others, self.had_input))
    }

    fn unexpected(&self, at: usize) -> Problem {
        Problem::new(
            Kind::InvalidJson,
            format!("the body is not valid JSON: byte {} is unexpected", self.offset + at as u64),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &[u8], cut: usize) -> Result<(String, String), Problem> {
        let mut splitter = Splitter::new(1_000);
        let mut input = Vec::new();
        for piece in [&text[..cut], &text[cut..]] {
            for range in splitter.feed(piece)? {
                input.extend_from_slice(&piece[range]);
            }
        }
        Ok((splitter.finish()?.0, String::from_utf8(input).unwrap()))
    }

    #[test]
    fn the_input_comes_out_with_its_bytes_wherever_the_text_is_cut() {
        for (text, others, input) in [
            (
                r#"{"a":{"input":1},"input": {"b":"x\"é", "c":[1 , 2]} ,"d":0}"#,
                r#"{"a":{"input":1},"input": null ,"d":0}"#,
                r#"{"b":"x\"é", "c":[1 , 2]}"#,
            ),
            (r#"{"inp\u0075t":-1.5}"#, r#"{"inp\u0075t":null}"#, "-1.5"),
            (r#"{"inputs":"input"}"#, r#"{"inputs":"input"}"#, ""),
            (r#"["input",1]"#, r#"["input",1]"#, ""),
        ] {
            for cut in 0..=text.len() {
                assert_eq!(split(text.as_bytes(), cut).unwrap(), (others.to_owned(), input.to_owned()), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_broken_or_too_much_is_refused() {
        let kind = |text: &str| split(text.as_bytes(), 0).unwrap_err().kind();
        assert_eq!(kind(r#"{"input":tru}"#), Kind::InvalidJson);
        assert_eq!(kind(r#"{"input":1"#), Kind::InvalidJson);
        assert_eq!(kind(r#"{"input":1,"input":2}"#), Kind::InvalidRequest);
        assert_eq!(kind(&format!("{{\"a\":\"{}\"}}", "x".repeat(1_000))), Kind::TooLarge);
    }

    #[test]
    fn a_batch_is_an_object_with_an_array() {
        assert_eq!(batch(r#"{"executions":[{"workflow":"a"},3]}"#).unwrap().len(), 2);
        let pointer = |text: &str| batch(text).unwrap_err().detail().to_owned();
        assert!(pointer("{}").starts_with("/executions"));
        for (other, kind) in [
            ("{\"a\":[1]}", "an object"),
            ("null", "null"),
            ("\"x\"", "a string"),
            ("1", "a number"),
            ("-1", "a number"),
            ("1.5", "a number"),
            ("true", "a boolean"),
        ] {
            let told = pointer(&format!("{{\"executions\":{other}}}"));
            assert!(told.starts_with("/executions") && told.ends_with(&format!("not {kind}")), "{told}");
        }
        assert!(pointer(r#"{"execution":[]}"#).contains("did you mean `executions`"));
        assert!(pointer(r#"{"executions":[],"executions":[]}"#).contains("more than once"));
        let many = format!(r#"{{"executions":[{}0]}}"#, "0,".repeat(5_000));
        assert_eq!(batch(&many).unwrap().len(), MAX_KEPT);
    }
}
