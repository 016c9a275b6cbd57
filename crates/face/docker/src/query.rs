//! The query of a request, and the percent-encoding of its path.
//!
//! Names may come several times (`t=a&t=b`). Booleans follow Docker: empty, `0`, `no`, `false` and
//! `none` are false, anything else is true. The number of parameters is bounded by the length of the
//! request line, which the server limits.

use std::str::FromStr;

use dhow_docker_wire::system::Filters;
use dhow_error::{Error, Result};
use serde::de::DeserializeOwned;

/// The parameters of a query, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands behind the question mark.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let parameters = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        });
        Ok(Self(parameters.collect::<Result<_>>()?))
    }

    /// The first value of a name; empty is as good as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.first(name).filter(|value| !value.is_empty())
    }

    /// The first value of a name, or the empty string.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of a name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A boolean, `default` if it is not there.
    pub(crate) fn flag(&self, name: &str, default: bool) -> bool {
        self.first(name).map_or(default, |value| {
            !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            )
        })
    }

    /// A number, if it is there.
    pub(crate) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Error::invalid(format!(
                    "invalid value {} for parameter {name}: not a number",
                    quoted(text)
                ))
            })
        };
        self.get(name).map(parse).transpose()
    }

    /// A value in JSON, or its default.
    pub(crate) fn json<T: DeserializeOwned + Default>(&self, name: &str) -> Result<T> {
        let Some(text) = self.get(name) else { return Ok(T::default()) };
        serde_json::from_str::<Option<T>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| Error::invalid(format!("invalid value for parameter {name}: {error}")))
    }

    /// The parameter `filters`, each of which must be one of `known`.
    pub(crate) fn filters(&self, known: &[&str]) -> Result<Filters> {
        let filters: Filters = self.json("filters")?;
        match filters.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Error::invalid(format!("invalid filter {}", quoted(name)))),
            None => Ok(filters),
        }
    }
}

/// Undoes percent-encoding; in queries (`form`) a plus is a blank.
pub(crate) fn decode(text: &str, form: bool) -> Result<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        decoded.push(match byte {
            b'%' => {
                let digits =
                    (rest.next().copied().and_then(digit), rest.next().copied().and_then(digit));
                let (Some(high), Some(low)) = digits else {
                    return Err(Error::invalid(format!("invalid URL escape in {}", quoted(text))));
                };
                high << 4 | low
            }
            b'+' if form => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded)
        .map_err(|_| Error::invalid(format!("not UTF-8 once decoded: {}", quoted(text))))
}

/// The beginning of a text from outside, in quotes, for a message.
pub(crate) fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_read_as_docker_reads_them() {
        let query = Query::parse("a=1&t=x%3A1&t=y+z&no=0&off=False&empty=&bare").unwrap();
        assert_eq!(query.number::<u32>("a").unwrap(), Some(1));
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["x:1", "y z"]);
        assert!(query.flag("a", false));
        assert!(!query.flag("no", true) && !query.flag("off", true) && !query.flag("empty", true));
        assert!(query.flag("absent", true) && !query.flag("bare", true));
        assert_eq!((query.get("empty"), query.get("absent")), (None, None));
        assert!(query.number::<u32>("t").is_err());
        assert!(Query::parse("a=%4").is_err() && Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%ff").is_err());
    }

    #[test]
    fn unknown_filters_are_refused() {
        let query = Query::parse("filters=%7B%22label%22%3A%5B%22a%22%5D%7D").unwrap();
        assert_eq!(query.filters(&["label"]).unwrap().values("label"), ["a"]);
        assert!(query.filters(&["name"]).is_err());
        assert!(Query::parse("filters=null").unwrap().filters(&[]).is_ok());
        assert!(Query::parse("filters=%5B").unwrap().filters(&[]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Query::parse(&text);
            let _ = decode(&text, false);
        }

        #[test]
        fn what_is_escaped_comes_back(text in ".*") {
            let escaped: Vec<String> = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&escaped.concat(), true).unwrap(), text);
        }
    }
}
