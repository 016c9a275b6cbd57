//! How a structure of the wire is declared: the derives and the leniency, said once.
//!
//! `wire!("PascalCase" { pub struct Name { pub field: Type, } })` declares ordinary structures whose
//! fields are named in that case, take their default when missing or `null`, and may carry further
//! serde attributes. A field with `serde(flatten)` cannot be declared so.

/// Declares structures of the wire; see the module.
macro_rules! wire {
    ($case:literal { $(
        $(#[$meta:meta])*
        pub struct $name:ident { $( $(#[$field_meta:meta])* pub $field:ident: $type:ty, )* }
    )* }) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = $case)]
        pub struct $name { $(
            $(#[$field_meta])*
            #[serde(default, deserialize_with = "crate::null::or_default")]
            pub $field: $type,
        )* }
    )* };
}
