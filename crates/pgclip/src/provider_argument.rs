//! The argument that names an execution provider.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clip::Provider;

/// Returns the parser of an argument with the names of the execution providers.
pub fn provider() -> impl TypedValueParser<Value = Provider> {
    let names = PossibleValuesParser::new(Provider::ALL.map(Provider::name));
    names.try_map(|name| Provider::named(&name).ok_or("no execution provider has this name"))
}
