//! Container ids: 64 hex digits, of which people see twelve.

use std::fmt;
use std::str::FromStr;

use dhow_error::{Classify, Kind};
use serde::{Deserialize, Serialize};

/// The id of a container or exec: 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// Why an id cannot be.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// Not 64 hex digits.
    #[error("invalid container id {0:?}: expected 64 hex digits")]
    Malformed(String),
    /// The kernel gave no random bytes.
    #[error("cannot read random bytes")]
    Random,
}

impl Classify for IdError {
    fn kind(&self) -> Kind {
        match self {
            Self::Malformed(_) => Kind::Invalid,
            Self::Random => Kind::Internal,
        }
    }
}

impl ContainerId {
    /// A new random id whose short form is not a decimal number (which could be taken for a hostname
    /// or a pid).
    pub fn random() -> Result<Self, IdError> {
        use fmt::Write;
        loop {
            let mut bytes = [0_u8; 32];
            getrandom::fill(&mut bytes).map_err(|_| IdError::Random)?;
            let text = bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            });
            if !text.bytes().take(12).all(|digit| digit.is_ascii_digit()) {
                return Ok(Self(text));
            }
        }
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The twelve digits that people see.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(is_hex) {
            Ok(Self(text))
        } else {
            Err(IdError::Malformed(text.chars().take(100).collect()))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
