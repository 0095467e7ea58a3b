//! A function whose call has one value.
//!
//! ```text
//! fn user(id: u64) -> R { user::__make(false, id) }
//! enum user {}                       // a namespace for the helpers: beside a function, wherever one may stand
//! impl user {
//!     fn original(id: u64) -> R { … }
//!     fn __make(force: bool, id: u64) -> R { … }
//!     fn get(id: u64) -> Option<V> { … }  …
//! }
//! ```
//!
//! A method has its helpers beside it, by its name and theirs.
#![forbid(unsafe_code)]

use crate::function::Function;
use crate::options::{Options, Place};
use crate::store::{at, key_type, let_cache, let_key, let_policy, local, own_cache, own_key};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{Ident, Result, parse_quote};

/// What the helpers' bodies may be, without a word from the lints: their style is ours, not the user's.
pub(crate) fn quiet() -> TokenStream {
    quote!(#[allow(dead_code, unused_variables, unused_lifetimes, single_use_lifetimes, unused_qualifications, clippy::all, clippy::pedantic, clippy::nursery)])
}

pub(crate) fn expand(function: &Function, options: &Options) -> Result<TokenStream> {
    let value = function.returns.value(&options.dogpile);
    let items = [
        original(function, options),
        make(function, options, &value),
        own_cache(function, options, &value),
        look(function, options, &value, "get"),
        look(function, options, &value, "peek"),
        set(function, options, &value),
        invalidate(function, options),
        key(function, options),
        refresh(function),
    ];
    Ok(assemble(function, &items))
}

/// The function, and its helpers where they belong.
pub(crate) fn assemble(function: &Function, helpers: &[TokenStream]) -> TokenStream {
    let (everywhere, outer, _) = function.attributes();
    let (vis, own) = (&function.vis, &function.sig.ident);
    let make = function.path(&function.hidden("make"));
    let (names, wait) = (function.forwarded(), wait(function));
    let args: Vec<_> = function.args.iter().map(|arg| &arg.declared).cloned().collect();
    let signature = function.signature(function.is_async(), own, &args, &output(function));
    let (this, rest): (Vec<&Ident>, Vec<&Ident>) = names.into_iter().partition(|name| *name == "self");
    let call = quote!(#make(#(#this,)* false #(, #rest)*) #wait);
    let wrapper = quote! {
        #(#outer)*
        #(#everywhere)*
        #[allow(clippy::all, clippy::pedantic, clippy::nursery)]
        #vis #signature {
            #call
        }
    };
    if function.associated {
        return quote!(#wrapper #(#helpers)*);
    }
    let cfgs: Vec<_> = everywhere.iter().filter(|attr| attr.path().is_ident("cfg")).collect();
    let doc = format!("What there is to the values of [`{own}()`], besides calling it.");
    quote! {
        #wrapper
        #(#cfgs)*
        #[doc = #doc]
        #[allow(non_camel_case_types, dead_code, missing_debug_implementations, clippy::all, clippy::pedantic)]
        #vis enum #own {}
        #(#cfgs)*
        impl #own {
            #(#helpers)*
        }
    }
}

pub(crate) fn output(function: &Function) -> TokenStream {
    function.returns.ty.to_token_stream()
}

pub(crate) fn wait(function: &Function) -> TokenStream {
    if function.is_async() { quote!(.await) } else { TokenStream::new() }
}

/// The function as it was written.
pub(crate) fn original(function: &Function, options: &Options) -> TokenStream {
    let (everywhere, _, inner) = function.attributes();
    let vis = &function.vis;
    // An argument may serve the options only.
    let mentioned = function.args.iter().filter(|arg| options.mentions(&arg.ident)).map(|arg| &arg.ident);
    let mut block = function.block.clone();
    block.stmts.splice(0..0, mentioned.map(|ident| parse_quote!(let _ = &#ident;)));
    let mut sig = function.sig.clone();
    sig.ident = function.helper("original");
    let doc = format!("[`{0}`], not memoised: runs it, and stores nothing.", function.name());
    quote! {
        #(#everywhere)*
        #(#inner)*
        #[doc = #doc]
        #[allow(dead_code, clippy::missing_const_for_fn, clippy::missing_errors_doc, clippy::missing_panics_doc, clippy::must_use_candidate)]
        #vis #sig #block
    }
}

/// The arguments of a helper that looks for a value only.
fn deciding(function: &Function) -> Vec<TokenStream> {
    function.args.iter().filter(|arg| arg.decides).map(|arg| arg.declared.clone()).collect()
}

/// A helper of the user's.
pub(crate) fn helper(
    function: &Function,
    doc: &str,
    name: &str,
    asyncness: bool,
    args: &[TokenStream],
    output: &TokenStream,
    body: &TokenStream,
) -> TokenStream {
    let (everywhere, ..) = function.attributes();
    let (vis, quiet) = (&function.vis, quiet());
    let signature = function.signature(asyncness, &function.helper(name), args, output);
    quote! {
        #(#everywhere)*
        #[doc = #doc]
        #quiet
        #vis #signature {
            #body
        }
    }
}

fn make(function: &Function, options: &Options, value: &TokenStream) -> TokenStream {
    let dogpile = &options.dogpile;
    let (everywhere, ..) = function.attributes();
    let (quiet, name, wait) = (quiet(), function.name(), wait(function));
    let (original, names) = (function.path(&function.helper("original")), function.forwarded());
    let run = quote!(#original(#(#names),*) #wait);
    let (force, cache, policy, key) = (local("force"), local("cache"), local("policy"), local("key"));
    let (found, error) = (local("found"), local("error"));

    let checks = checks(function, options);
    let bypass = options.bypass.as_ref().map(|bypass| {
        quote! {
            if #bypass {
                return #run;
            }
        }
    });
    let (let_cache, let_key) = (let_cache(function, options), let_key(function, options));
    let let_policy = let_policy(function, options, value);
    let creator = creator(function, options);
    let memoised = if function.is_async() { quote!(memoised_async) } else { quote!(memoised) };
    let stored = function.returns.share(dogpile, &quote!(&*#found));
    let stored =
        if function.returns.has_errors() { quote!(::std::result::Result::Ok(#stored)) } else { stored };
    let failed = failed(function, options, &error);

    let output = output(function);
    let mut args: Vec<_> = function.args.iter().map(|arg| arg.declared.clone()).collect();
    let after_self = usize::from(function.args.first().is_some_and(|arg| arg.is_self()));
    args.insert(after_self, quote!(#force: bool));
    let signature = function.signature(function.is_async(), &function.hidden("make"), &args, &output);
    quote! {
        #(#everywhere)*
        #[doc(hidden)]
        #quiet
        #signature {
            #checks
            #bypass
            #let_key
            #let_cache
            #let_policy
            let #found = #cache.with(#policy).#memoised(#key, #force, || #creator) #wait;
            match #found {
                ::std::result::Result::Ok(#found) => #stored,
                ::std::result::Result::Err(#error) => match #dogpile::__macros::failed(#error, #name) {
                    ::std::option::Option::Some(#error) => #failed,
                    ::std::option::Option::None => #run,
                },
            }
        }
    }
}

/// What the arguments must be, said at their types.
fn checks(function: &Function, options: &Options) -> TokenStream {
    let dogpile = &options.dogpile;
    let keyed = function.args.iter().filter(|arg| arg.keyed).map(|arg| {
        let owned = arg.owned();
        at(arg.ty.span(), quote!(#dogpile::__macros::key_part::<#owned>();))
    });
    quote!(#(#keyed)*)
}

/// What owns the arguments, and calls the function.
pub(crate) fn creator(function: &Function, options: &Options) -> TokenStream {
    let owned = function.args.iter().enumerate().map(|(i, arg)| {
        let (name, value) = (arg.own_name(i), arg.to_owned(options));
        quote!(let #name = #value;)
    });
    let passed = function.args.iter().enumerate().map(|(i, arg)| arg.pass(&arg.own_name(i)));
    let (original, wait) = (function.path(&function.helper("original")), wait(function));
    let call = quote!(#original(#(#passed),*) #wait);
    let call = if function.returns.has_errors() {
        call
    } else {
        quote!(::std::result::Result::Ok::<_, ::std::convert::Infallible>(#call))
    };
    let runs = if function.is_async() { quote!(async move { #call }) } else { quote!(move || #call) };
    quote!({ #(#owned)* #runs })
}

/// What the caller gets of a shared error.
pub(crate) fn failed(function: &Function, options: &Options, error: &Ident) -> TokenStream {
    let dogpile = &options.dogpile;
    if !function.returns.has_errors() {
        return quote!(match *#error {});
    }
    let share = match &options.share_error {
        Some(share) => share.to_token_stream(),
        None => at(function.returns.ty.span(), quote!(#dogpile::__macros::SharedError::share)),
    };
    quote!(::std::result::Result::Err(#dogpile::__macros::unshared(#error, #share)))
}

/// `get` and `peek`.
fn look(function: &Function, options: &Options, value: &TokenStream, name: &str) -> TokenStream {
    let (let_cache, let_key) = (let_cache(function, options), let_key(function, options));
    let (cache, key, found) = (local("cache"), local("key"), local("found"));
    let look = Ident::new(name, cache.span());
    let copy = function.returns.share(&options.dogpile, &quote!(&*#found));
    let got = quote!(::std::option::Option::map(#cache.#look(#key), |#found| #copy));
    // What is not cached where it is `None`, is there if it is `Some`.
    let (output, got) = if function.returns.drops_none {
        (value.clone(), quote!(::std::option::Option::flatten(#got)))
    } else {
        (quote!(::std::option::Option<#value>), got)
    };
    let doc = match name {
        "get" => "The value for these arguments, if there is a fresh one. Makes none.",
        _ => "As `get`, without counting a use.",
    };
    helper(function, doc, name, false, &deciding(function), &output, &quote!(#let_key #let_cache #got))
}

fn set(function: &Function, options: &Options, value: &TokenStream) -> TokenStream {
    let dogpile = &options.dogpile;
    let (let_cache, let_key) = (let_cache(function, options), let_key(function, options));
    let (cache, given) = (local("cache"), local("value"));
    let made = own_key(function, options);
    // A cache of the function's own has one `fresh` for all.
    let fresh = match (&options.place, &options.fresh_by_call) {
        (_, Some(fresh)) => Some(quote!((#fresh)())),
        (Place::Own, None) => None,
        (_, None) => options.fresh(),
    };
    let lives = fresh.map(|fresh| quote!(.ttl(#fresh)));
    let mut args = deciding(function);
    let after_self = usize::from(function.args.first().is_some_and(|arg| arg.is_self() && arg.decides));
    args.insert(after_self, quote!(#given: #value));
    // An own cache whose key's type is unknown is found by the key.
    let let_key = key_type(function, options).is_none().then_some(let_key);
    let body = quote! {
        #let_key
        #let_cache
        ::std::mem::drop(#cache.insert_with(#made, #given, #dogpile::InsertOptions::new()#lives));
    };
    let doc = "Stores a value for these arguments, as if the function had returned it.";
    helper(function, doc, "set", false, &args, &quote!(()), &body)
}

fn invalidate(function: &Function, options: &Options) -> TokenStream {
    let (let_cache, let_key) = (let_cache(function, options), let_key(function, options));
    let (cache, key) = (local("cache"), local("key"));
    let body = quote!(#let_key #let_cache #cache.remove(#key).is_some());
    let doc = "Takes the value for these arguments out, and says whether there was one. A call that is making one now \
               keeps it for itself and for who waits.";
    helper(function, doc, "invalidate", false, &deciding(function), &quote!(bool), &body)
}

fn key(function: &Function, options: &Options) -> TokenStream {
    let Some(ty) = key_type(function, options) else { return TokenStream::new() };
    let doc = "The key of the value for these arguments.";
    helper(function, doc, "key", false, &deciding(function), &ty, &own_key(function, options))
}

pub(crate) fn refresh(function: &Function) -> TokenStream {
    let (everywhere, ..) = function.attributes();
    let (vis, quiet, wait) = (&function.vis, quiet(), wait(function));
    let args: Vec<_> = function.args.iter().map(|arg| arg.declared.clone()).collect();
    let signature =
        function.signature(function.is_async(), &function.helper("refresh"), &args, &output(function));
    let (make, names) = (function.path(&function.hidden("make")), function.forwarded());
    let (this, rest): (Vec<&Ident>, Vec<&Ident>) = names.into_iter().partition(|name| *name == "self");
    let doc = "Makes the value for these arguments anew, fresh or not, stores and returns it. If somebody makes it already, \
               waits for that. Others get the old value meanwhile.";
    quote! {
        #(#everywhere)*
        #[doc = #doc]
        #quiet
        #vis #signature {
            #make(#(#this,)* true #(, #rest)*) #wait
        }
    }
}
