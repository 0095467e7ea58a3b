//! Where values are, under which key, and by which policy: the snippets that functions and helpers begin with.
#![forbid(unsafe_code)]

use crate::function::{Arg, Form, Function, is_path, names};
use crate::multi;
use crate::options::{Key, Options, Place};
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;

/// A variable that no argument of the user's can be mixed up with.
pub(crate) fn local(name: &str) -> Ident {
    format_ident!("__{name}", span = Span::mixed_site())
}

/// The same tokens, at the user's place: what the compiler says of them is said there. What they name stays the same.
pub(crate) fn at(span: Span, tokens: TokenStream) -> TokenStream {
    let place = |token: TokenTree| match token {
        TokenTree::Group(group) => {
            let mut placed = Group::new(group.delimiter(), at(span, group.stream()));
            placed.set_span(group.span().located_at(span));
            TokenTree::Group(placed)
        }
        mut token => {
            token.set_span(token.span().located_at(span));
            token
        }
    };
    tokens.into_iter().map(place).collect()
}

/// The type of the key, if it can be told from the signature.
pub(crate) fn key_type(function: &Function, options: &Options) -> Option<TokenStream> {
    if options.multi.is_some() {
        return multi::key_type(function);
    }
    match &options.key {
        Some(Key::Format(_)) => Some(quote!(::std::string::String)),
        Some(Key::Made(_)) => None,
        None => {
            let parts: Vec<TokenStream> = keyed(function).map(Arg::owned).collect();
            Some(match &parts[..] {
                [one] => one.clone(),
                parts => quote!((#(#parts),*)),
            })
        }
    }
}

fn keyed(function: &Function) -> impl Iterator<Item = &Arg> {
    function.args.iter().filter(|arg| arg.keyed)
}

/// The key itself.
pub(crate) fn own_key(function: &Function, options: &Options) -> TokenStream {
    match &options.key {
        Some(Key::Format(format)) => quote!(::std::format!(#format)),
        Some(Key::Made(made)) => made.to_token_stream(),
        None => {
            let parts: Vec<TokenStream> = keyed(function).map(|arg| arg.to_owned(options)).collect();
            match &parts[..] {
                [one] => one.clone(),
                parts => quote!((#(#parts),*)),
            }
        }
    }
}

/// `let __key = …;`, what a cache looks up: borrowed where the key is one argument.
pub(crate) fn let_key(function: &Function, options: &Options) -> TokenStream {
    let (key, owned) = (local("key"), local("owned"));
    let parts: Vec<&Arg> = keyed(function).collect();
    if let (None, [one]) = (&options.key, &parts[..]) {
        let ident = &one.ident;
        match one.form {
            Form::Value => return quote!(let #key = &#ident;),
            Form::Ref(_) => return quote!(let #key = #ident;),
            Form::OptionRef(_) => {}
        }
    }
    let made = own_key(function, options);
    quote! {
        let #owned = #made;
        let #key = &#owned;
    }
}

/// `let __cache = …;`
pub(crate) fn let_cache(function: &Function, options: &Options) -> TokenStream {
    let dogpile = &options.dogpile;
    let (cache, key) = (local("cache"), local("key"));
    let owner = function.owner();
    match &options.place {
        Place::Own if key_type(function, options).is_some() => {
            let own = function.helper("cache");
            quote!(let #cache = #owner::#own();)
        }
        Place::Own => {
            let own = function.hidden("cache");
            quote!(let #cache = #owner::#own(#key);)
        }
        Place::Cache(expr) | Place::Region(expr) => {
            let given = at(expr.span(), quote!(&#expr));
            quote!(let #cache: &#dogpile::Cache<_, _, _> = #given;)
        }
    }
}

/// The function that keeps a cache of the function's own.
pub(crate) fn own_cache(function: &Function, options: &Options, value: &TokenStream) -> TokenStream {
    if !matches!(options.place, Place::Own) {
        return TokenStream::new();
    }
    let dogpile = &options.dogpile;
    let name = function.name();
    let calls = options.cache_calls();
    let policy = options.has_own_policy(function).then(|| {
        let base = match &options.policy {
            Some(policy) => quote!((#policy).to_builder()),
            None => quote!(#dogpile::Policy::<#value>::builder()),
        };
        let calls = options.policy_calls(function);
        quote!(.policy(#dogpile::__macros::policy(#name, #base #calls .build())))
    });
    let build = |key: &TokenStream| quote!(#dogpile::__macros::built(#name, #dogpile::Cache::<#key, #value>::builder() #calls #policy .build()));
    let (everywhere, ..) = function.attributes();
    let vis = &function.vis;
    let owner = if function.associated { quote!(Self) } else { quote!(()) };
    if let Some(key) = key_type(function, options) {
        let cache = function.helper("cache");
        let made = build(&key);
        let keeps = if function.associated {
            quote! {
                static __DOGPILE_CACHE: #dogpile::__macros::Slot = #dogpile::__macros::Slot::new();
                __DOGPILE_CACHE.get::<#owner, _>(|| #made)
            }
        } else {
            quote! {
                static __DOGPILE_CACHE: ::std::sync::LazyLock<#dogpile::Cache<#key, #value>> =
                    ::std::sync::LazyLock::new(|| #made);
                &__DOGPILE_CACHE
            }
        };
        let doc = format!("The cache that the values of `{name}` are in.");
        quote! {
            #(#everywhere)*
            #[doc = #doc]
            #[allow(dead_code, clippy::all, clippy::pedantic, clippy::nursery)]
            #vis fn #cache() -> &'static #dogpile::Cache<#key, #value> {
                #keeps
            }
        }
    } else {
        let cache = function.hidden("cache");
        let made = build(&quote!(__Key));
        quote! {
            #(#everywhere)*
            #[doc(hidden)]
            #[allow(dead_code, clippy::all, clippy::pedantic, clippy::nursery)]
            fn #cache<__Key>(_: &__Key) -> &'static #dogpile::Cache<__Key, #value>
            where
                __Key: #dogpile::__macros::KeyPart + ::std::hash::Hash + ::std::cmp::Eq
                    + ::std::marker::Send + ::std::marker::Sync + 'static,
            {
                static __DOGPILE_CACHE: #dogpile::__macros::Slot = #dogpile::__macros::Slot::new();
                __DOGPILE_CACHE.get::<#owner, _>(|| #made)
            }
        }
    }
}

/// `let __policy = …;`, after `let_cache`.
pub(crate) fn let_policy(function: &Function, options: &Options, value: &TokenStream) -> TokenStream {
    let dogpile = &options.dogpile;
    let (cache, policy, built) = (local("cache"), local("policy"), local("built"));
    let name = function.name();
    let by_call = options.fresh_by_call.as_ref().map(|fresh| quote!(.fresh((#fresh)())));
    let given = match &options.place {
        Place::Cache(expr) if options.has_own_policy(function) => Some(expr),
        _ => None,
    };
    if given.is_none() && by_call.is_none() {
        return quote!(let #policy = #cache.policy(););
    }
    let calls = given.map(|_| options.policy_calls(function));
    let derived = |base: TokenStream| {
        let base =
            options.policy.as_ref().filter(|_| given.is_some()).map_or(base, |policy| quote!((#policy)));
        quote!(#dogpile::__macros::policy(#name, #base.to_builder() #calls #by_call .build()))
    };
    // One for all calls, where all go to one cache.
    if let (Some(expr), None, false) = (given, &by_call, function.is_open())
        && is_path(expr)
        && !function.args.iter().any(|arg| names(expr.to_token_stream(), &arg.ident))
    {
        let derived = derived(quote!((#expr).policy()));
        return quote! {
            static __DOGPILE_POLICY: ::std::sync::LazyLock<#dogpile::Policy<#value>> = ::std::sync::LazyLock::new(|| #derived);
            let #policy = &*__DOGPILE_POLICY;
        };
    }
    let derived = derived(quote!(#cache.policy()));
    quote! {
        let #built = #derived;
        let #policy = &#built;
    }
}
