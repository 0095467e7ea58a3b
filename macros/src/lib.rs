//! The attribute macros of `dogpile`. Use them by that crate's feature `macros`, where they are documented.
//!
//! What a macro expands to names public paths of `dogpile` only, absolute ones, and knows nothing else of it.
#![forbid(unsafe_code)]

mod function;
mod multi;
mod options;
mod region;
mod single;
mod store;

use function::Function;
use options::Options;
use proc_macro2::TokenStream;
use quote::quote;

/// Memoises a function: the documentation is at `dogpile::cached`.
#[proc_macro_attribute]
pub fn cached(
    options: proc_macro::TokenStream,
    function: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let function = TokenStream::from(function);
    expand(options.into(), function.clone())
        .unwrap_or_else(|error| {
            // With the function as it was there are no further errors about its absence.
            let error = error.into_compile_error();
            quote!(#error #function)
        })
        .into()
}

fn expand(options: TokenStream, function: TokenStream) -> syn::Result<TokenStream> {
    let options = syn::parse2::<Options>(options)?;
    let function = Function::parse(function, &options)?;
    options.check(&function)?;
    match (region::of(&options), options.multi) {
        (Some(region), _) => region::expand(&function, &options, region),
        (None, Some(_)) => multi::expand(&function, &options),
        (None, None) => single::expand(&function, &options),
    }
}
