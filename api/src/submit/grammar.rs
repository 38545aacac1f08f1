//! JSON's grammar (RFC 8259), byte by byte and in constant memory: whether a text that is never held whole is one.
//!
//! Invariant: what it accepts is what `serde_json` accepts, however the text is cut. It knows nothing of values: it says of each byte whether it is of a
//! member's name or value in the outermost object. Depth is bounded by [`roadstead_domain::json::MAX_DEPTH`], which the scanner before it enforces too.

use roadstead_domain::json::MAX_DEPTH;

/// What a byte belongs to, seen from the outermost object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Frame,
    /// Of a member's name, quotes included.
    Name,
    /// Of a member's value.
    Value,
}

/// The byte that can't stand where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unexpected;

#[derive(Clone, Debug)]
pub struct Grammar {
    state: State,
    /// One bit a level, the innermost lowest: set for an object.
    objects: u64,
    depth: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Value,
    FirstValueOrEnd,
    FirstNameOrEnd,
    Name,
    Colon,
    /// A comma or an end, or nothing but space when no level is open.
    AfterValue,
    Text {
        name: bool,
        text: Text,
    },
    Number(Number),
    /// What must follow of `true`, `false` or `null`.
    Word(&'static [u8]),
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Plain,
    Escape,
    /// Hex digits to come.
    Hex(u8),
    /// Continuation bytes of UTF-8 to come, and the bounds of the next one.
    Utf8 {
        missing: u8,
        low: u8,
        high: u8,
    },
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

impl Default for Grammar {
    fn default() -> Self {
        Self { state: State::Value, objects: 0, depth: 0 }
    }
}

impl Grammar {
    pub fn step(&mut self, byte: u8) -> Result<Part, Unexpected> {
        match self.state {
            State::Text { name, text } => self.text(name, text, byte),
            State::Number(number) => match number.next(byte) {
                Some(next) => {
                    self.state = State::Number(next);
                    Ok(self.value())
                }
                // Only the byte after a number says that it has ended.
                None if number.is_whole() => {
                    self.state = State::AfterValue;
                    self.step(byte)
                }
                None => Err(Unexpected),
            },
            State::Word([first, rest @ ..]) if *first == byte => {
                self.state = if rest.is_empty() { State::AfterValue } else { State::Word(rest) };
                Ok(self.value())
            }
            State::Word(_) => Err(Unexpected),
            State::Value
            | State::FirstValueOrEnd
            | State::FirstNameOrEnd
            | State::Name
            | State::Colon
            | State::AfterValue => {
                if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                    Ok(self.between())
                } else {
                    self.token(byte)
                }
            }
        }
    }

    /// How many bytes from the beginning of `bytes` are plain text within a string of a value, which leave the grammar where it is.
    pub fn plain_run(&self, bytes: &[u8]) -> usize {
        let plain = matches!(self.state, State::Text { name: false, text: Text::Plain }) && self.depth > 0;
        if !plain {
            return 0;
        }
        bytes.iter().position(|b| !(0x20..0x80).contains(b) || matches!(b, b'"' | b'\\')).unwrap_or(bytes.len())
    }

    /// Whether what was read is a whole text.
    pub fn is_complete(&self) -> bool {
        self.depth == 0
            && match self.state {
                State::AfterValue => true,
                State::Number(number) => number.is_whole(),
                _ => false,
            }
    }

    fn token(&mut self, byte: u8) -> Result<Part, Unexpected> {
        match (self.state, byte) {
            (State::FirstValueOrEnd, b']') | (State::FirstNameOrEnd, b'}') => Ok(self.close()),
            (State::Value | State::FirstValueOrEnd, _) => self.begin_value(byte),
            (State::FirstNameOrEnd | State::Name, b'"') => {
                self.state = State::Text { name: true, text: Text::Plain };
                Ok(if self.depth == 1 { Part::Name } else { Part::Value })
            }
            (State::Colon, b':') => {
                self.state = State::Value;
                Ok(self.between())
            }
            (State::AfterValue, b',') if self.depth > 0 => {
                self.state = if self.in_object() { State::Name } else { State::Value };
                Ok(self.between())
            }
            (State::AfterValue, b'}') if self.depth > 0 && self.in_object() => Ok(self.close()),
            (State::AfterValue, b']') if self.depth > 0 && !self.in_object() => Ok(self.close()),
            _ => Err(Unexpected),
        }
    }

    fn begin_value(&mut self, byte: u8) -> Result<Part, Unexpected> {
        let part = self.value();
        self.state = match byte {
            b'{' | b'[' => return self.open(byte == b'{'),
            b'"' => State::Text { name: false, text: Text::Plain },
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Whole),
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            _ => return Err(Unexpected),
        };
        Ok(part)
    }

    fn open(&mut self, object: bool) -> Result<Part, Unexpected> {
        if self.depth == MAX_DEPTH {
            return Err(Unexpected);
        }
        let part = self.value();
        self.objects = self.objects << 1 | u64::from(object);
        self.depth += 1;
        self.state = if object { State::FirstNameOrEnd } else { State::FirstValueOrEnd };
        Ok(part)
    }

    fn close(&mut self) -> Part {
        self.objects >>= 1;
        self.depth -= 1;
        self.state = State::AfterValue;
        self.value()
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }

    /// What a byte of a value at this depth belongs to.
    fn value(&self) -> Part {
        if self.depth == 0 { Part::Frame } else { Part::Value }
    }

    /// What a byte between tokens belongs to.
    fn between(&self) -> Part {
        if self.depth <= 1 { Part::Frame } else { Part::Value }
    }

    fn text(&mut self, name: bool, text: Text, byte: u8) -> Result<Part, Unexpected> {
        let part = if name && self.depth == 1 { Part::Name } else { self.value() };
        let next = match (text, byte) {
            (Text::Plain, b'"') => {
                self.state = if name { State::Colon } else { State::AfterValue };
                return Ok(part);
            }
            (Text::Plain, b'\\') => Text::Escape,
            (Text::Plain, 0x20..0x80) | (Text::Escape, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                Text::Plain
            }
            (Text::Plain, _) => utf8_lead(byte).ok_or(Unexpected)?,
            (Text::Escape, b'u') => Text::Hex(4),
            (Text::Hex(missing), _) if byte.is_ascii_hexdigit() => {
                if missing == 1 {
                    Text::Plain
                } else {
                    Text::Hex(missing - 1)
                }
            }
            (Text::Utf8 { missing, low, high }, _) if (low..=high).contains(&byte) => {
                if missing == 1 {
                    Text::Plain
                } else {
                    Text::Utf8 { missing: missing - 1, low: 0x80, high: 0xbf }
                }
            }
            (Text::Escape | Text::Hex(_) | Text::Utf8 { .. }, _) => return Err(Unexpected),
        };
        self.state = State::Text { name, text: next };
        Ok(part)
    }
}

/// The well-formed sequences of the Unicode Standard's table 3-7.
const fn utf8_lead(byte: u8) -> Option<Text> {
    let (missing, low, high) = match byte {
        0xc2..=0xdf => (1, 0x80, 0xbf),
        0xe0 => (2, 0xa0, 0xbf),
        0xed => (2, 0x80, 0x9f),
        0xe1..=0xec | 0xee | 0xef => (2, 0x80, 0xbf),
        0xf0 => (3, 0x90, 0xbf),
        0xf1..=0xf3 => (3, 0x80, 0xbf),
        0xf4 => (3, 0x80, 0x8f),
        _ => return None,
    };
    Some(Text::Utf8 { missing, low, high })
}

impl Number {
    /// `None`: the byte is not of this number.
    const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::ESign,
            (Self::E | Self::ESign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }

    const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    fn accepts(text: &[u8]) -> bool {
        let mut grammar = Grammar::default();
        text.iter().all(|&byte| grammar.step(byte).is_ok()) && grammar.is_complete()
    }

    fn agree(text: &[u8]) {
        // What it ignores serde_json does not check for UTF-8.
        let judge = std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
        assert_eq!(accepts(text), judge, "{:?}", String::from_utf8_lossy(text));
    }

    #[test]
    fn it_agrees_with_serde_json_on_what_is_near_the_edge() {
        for text in [
            "",
            " ",
            "{}",
            "[]",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{a:1}",
            "[1 2]",
            "01",
            "-",
            "-0",
            "1.",
            ".5",
            "1e",
            "1e+",
            "1E-3",
            "+1",
            "nul",
            "nulll",
            "true ",
            "tru e",
            "\"\\u12\"",
            "\"\\u12G4\"",
            "\"\\x\"",
            "\"a\nb\"",
            "\"\u{7f}\"",
            "\"é𝄞\"",
            "[[]]",
            "[]]",
            "{\"a\":[{}]}",
            "{\"a\":}",
            "\u{feff}{}",
            "1 1",
            "\"\\ud800\"",
            "[,]",
            "{,}",
            "\"",
            "\"\\",
        ] {
            agree(text.as_bytes());
        }
        for bytes in [
            &b"\"\xff\""[..],
            b"\"\xc0\x80\"",
            b"\"\xed\xa0\x80\"",
            b"\"\xf4\x90\x80\x80\"",
            b"\"\xe2\x82\"",
            b"\xc3\xa9",
            b"\"\xf0\x90\x80\x80\"",
        ] {
            agree(bytes);
        }
    }

    #[test]
    fn parts_are_told_apart() {
        let mut grammar = Grammar::default();
        let text = br#"{ "a" : [1, {"b":2}] , "c":-1}"#;
        let parts: String = text
            .iter()
            .map(|&byte| match grammar.step(byte).unwrap() {
                Part::Frame => '.',
                Part::Name => 'n',
                Part::Value => 'v',
            })
            .collect();
        assert_eq!(parts, "..nnn...vvvvvvvvvvvv...nnn.vv.");
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_on_any_soup(text in r#"[\[\]{}:,"\\ua0-3.eE+\- tfn]{0,24}"#) {
            agree(text.as_bytes());
        }

        #[test]
        fn it_agrees_with_serde_json_on_broken_documents(cut in 0_usize..200, byte in any::<u8>()) {
            let mut text = r#"{"workflow":"wörd","input":{"a":[1,-2.5e+3,true,null,"x\u00e9\n"],"b":{}},"labels":{"k":"v"}}"#.as_bytes().to_vec();
            let cut = cut % text.len();
            text[cut] = byte;
            agree(&text);
        }
    }
}
