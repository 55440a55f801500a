//! How the kinds of events become one type.

macro_rules! bodies {
    ($($(#[$doc:meta])* $variant:ident = $name:literal { $($(#[$fdoc:meta])* $field:ident : $type:ty),* $(,)? })*) => {
        /// Everything that can happen. Names are stable; a field is only ever added with a default.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "body")]
        pub enum Body {$(
            $(#[$doc])*
            #[serde(rename = $name)]
            $variant { $($(#[$fdoc])* $field: $type),* },
        )*}

        impl Body {
            /// The event's dotted name.
            pub const fn kind(&self) -> &'static str {
                match self {$( Self::$variant { .. } => $name, )*}
            }
            /// Every name there is.
            pub const KINDS: &'static [&'static str] = &[$($name),*];
        }
    };
}

pub(super) use bodies;
