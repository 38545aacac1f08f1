//! Checks on JSON text that a parser does not make: nesting depth and the NUL character.
//!
//! Done on the bytes, in one pass and without recursion, so that hostile input costs what its length costs.

use memchr::memchr3;

/// Deepest nesting of arrays and objects that is accepted anywhere.
pub const MAX_DEPTH: usize = 64;

/// Why a JSON text is refused before anybody looks at what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unacceptable {
    /// Nested deeper than [`MAX_DEPTH`]; the byte offset of the bracket that was one too many.
    TooDeep { offset: usize },
    /// A string holds U+0000, which neither PostgreSQL text, argv nor an environment can carry.
    NulCharacter { offset: usize },
}

/// An incremental scanner; feed it a document in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct Scanner {
    offset: usize,
    depth: usize,
    in_string: bool,
    escape: Escape,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Backslash,
    /// Inside `\uXXXX`: how many digits were read, all of them zero so far.
    ZeroDigits(u8),
}

impl Scanner {
    /// Reads the next piece. Text that is not JSON passes: refusing it is the parser's job.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Unacceptable> {
        let mut rest = piece;
        while let Some((&byte, after)) = rest.split_first() {
            if self.in_string && self.escape == Escape::None {
                // Most of a document is in its strings, and nothing of them matters but these three.
                let plain = memchr3(b'"', b'\\', 0, rest).unwrap_or(rest.len());
                if plain > 0 {
                    self.offset += plain;
                    rest = &rest[plain..];
                    continue;
                }
            }
            rest = after;
            let offset = self.offset;
            self.offset += 1;
            if self.in_string {
                self.escape = match (self.escape, byte) {
                    (Escape::Backslash, b'u') => Escape::ZeroDigits(0),
                    (Escape::None, b'\\') => Escape::Backslash,
                    (Escape::ZeroDigits(3), b'0') => return Err(Unacceptable::NulCharacter { offset }),
                    (Escape::ZeroDigits(n), b'0') => Escape::ZeroDigits(n + 1),
                    (Escape::Backslash, _) => Escape::None,
                    (_, 0) => return Err(Unacceptable::NulCharacter { offset }),
                    (_, b'"') => {
                        self.in_string = false;
                        Escape::None
                    }
                    _ => Escape::None,
                };
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => {
                        self.depth += 1;
                        if self.depth > MAX_DEPTH {
                            return Err(Unacceptable::TooDeep { offset });
                        }
                    }
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Scans a whole document.
pub fn scan(text: &[u8]) -> Result<(), Unacceptable> {
    Scanner::default().feed(text)
}

/// Whether arrays and objects of a JSON text are nested deeper than [`MAX_DEPTH`], whatever else may be said of it.
pub fn is_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    text.iter().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_DEPTH
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(scan("[".repeat(MAX_DEPTH).as_bytes()), Ok(()));
        let too_deep = "[".repeat(10_000);
        assert_eq!(scan(too_deep.as_bytes()), Err(Unacceptable::TooDeep { offset: MAX_DEPTH }));
        assert_eq!(scan(format!("\"{too_deep}\"").as_bytes()), Ok(()), "brackets in a string don't nest");
    }

    #[test]
    fn depth_is_seen_whatever_else_is_in_a_text() {
        let nested = |depth: usize| format!(r#"["\u0000", "a\"[[", {}1{}]"#, "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(nested(MAX_DEPTH - 1).as_bytes()));
        assert!(is_too_deep(nested(MAX_DEPTH).as_bytes()));
        assert!(!is_too_deep(format!("[{}1]", "[],".repeat(1_000)).as_bytes()));
    }

    #[test]
    fn nul_is_found_in_strings_only_when_it_is_one() {
        assert!(matches!(scan(br#"{"a":"\u0000"}"#), Err(Unacceptable::NulCharacter { .. })));
        assert!(matches!(scan(br#""x\\\u0000""#), Err(Unacceptable::NulCharacter { .. })));
        assert_eq!(scan(br#""\\u0000""#), Ok(()), "an escaped backslash before u0000");
        assert!(scan(br#""\u0001\u00001""#).is_err());
        assert_eq!(scan(br#""\u0001 0000""#), Ok(()));
    }

    #[test]
    fn pieces_of_any_size_give_the_same_answer() {
        let text = br#"{"a":["\u0000"]}"#;
        for cut in 0..text.len() {
            let mut scanner = Scanner::default();
            let answer = scanner.feed(&text[..cut]).and_then(|()| scanner.feed(&text[cut..]));
            assert_eq!(answer, scan(text));
        }
    }
}
