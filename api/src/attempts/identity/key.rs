//! A published key (RFC 7517) of the kinds by which clusters sign: RSA, and the curves P-256 and P-384.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use std::fmt;

/// Asymmetric ones alone: with a shared secret, whoever checks could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    RS256,
    ES256,
    ES384,
}

/// A key as it is published.
#[derive(Debug, Deserialize)]
pub struct Jwk {
    pub kid: Option<String>,
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// One that can be checked against.
pub enum Key {
    Rs256 { modulus: Vec<u8>, exponent: Vec<u8> },
    Es256(UnparsedPublicKey<Vec<u8>>),
    Es384(UnparsedPublicKey<Vec<u8>>),
}

impl Key {
    /// None for a key of another kind, or for another purpose than signing.
    pub fn of(jwk: &Jwk) -> Option<Self> {
        if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => Self::Rs256 { modulus: number(jwk.n.as_deref())?, exponent: number(jwk.e.as_deref())? },
            ("EC", Some("P-256")) => Self::Es256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, jwk.point(32)?)),
            ("EC", Some("P-384")) => Self::Es384(UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, jwk.point(48)?)),
            _ => return None,
        };
        let named = jwk.alg.as_deref();
        named.is_none_or(|named| named == key.algorithm().name()).then_some(key)
    }

    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rs256 { .. } => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
            Self::Es384(_) => Algorithm::ES384,
        }
    }

    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rs256 { modulus, exponent } => RsaPublicKeyComponents { n: modulus, e: exponent }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Self::Es256(key) | Self::Es384(key) => key.verify(message, signature).is_ok(),
        }
    }
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
        }
    }
}

impl Jwk {
    /// The uncompressed point, of coordinates with so many bytes.
    fn point(&self, bytes: usize) -> Option<Vec<u8>> {
        let coordinate = |text: Option<&str>| {
            BASE64_URL_SAFE_NO_PAD.decode(text?).ok().filter(|coordinate| coordinate.len() == bytes)
        };
        Some([vec![4], coordinate(self.x.as_deref())?, coordinate(self.y.as_deref())?].concat())
    }
}

/// Big-endian, without leading zeros: some publish one.
fn number(text: Option<&str>) -> Option<Vec<u8>> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text?).ok()?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.algorithm()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(jwk: &str) -> Option<Key> {
        Key::of(&serde_json::from_str(jwk).unwrap())
    }

    const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs\
        D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV\
        MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

    /// The examples of RFC 7515, appendices A.2 and A.3: keys and signatures that somebody else made.
    #[test]
    fn the_standards_examples_hold() {
        let signed = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcA\
            cQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOk\
            HWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let rsa =
            key(&format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB","alg":"RS256","use":"sig","kid":"1"}}"#)).unwrap();
        assert_eq!(rsa.algorithm(), Algorithm::RS256);
        assert!(rsa.has_signed(signed.as_bytes(), &signature));
        assert!(!rsa.has_signed(signed.replace("eyJpc3", "eyJpc4").as_bytes(), &signature));

        let signed = signed.replace("eyJhbGciOiJSUzI1NiJ9", "eyJhbGciOiJFUzI1NiJ9");
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let point =
            r#""x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
        let ec = key(&format!(r#"{{"kty":"EC","crv":"P-256",{point}}}"#)).unwrap();
        assert_eq!(ec.algorithm(), Algorithm::ES256);
        assert!(ec.has_signed(signed.as_bytes(), &signature));
        assert!(!ec.has_signed(signed.as_bytes(), &signature[..63]));
    }

    #[test]
    fn keys_of_other_kinds_and_purposes_are_passed_over() {
        for other in [
            r#"{"kty":"oct","k":"c2VjcmV0","alg":"HS256"}"#.to_owned(),
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"RSA","e":"AQAB"}"#.to_owned(),
            r#"{"kty":"RSA","n":"!","e":"AQAB"}"#.to_owned(),
            format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB","use":"enc"}}"#),
            format!(r#"{{"kty":"RSA","n":"{RSA_N}","e":"AQAB","alg":"RS512"}}"#),
        ] {
            assert!(key(&other).is_none(), "{other}");
        }
    }
}
