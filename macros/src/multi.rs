//! A function of many keys, whose call has a value for each: one call of it for those that are not there.
//!
//! Its creator does not outlive the call, so the arguments need not be owned; only elements are cloned, for the slice that the
//! function is called with.
#![forbid(unsafe_code)]

use crate::function::{Arg, Form, Function, owned};
use crate::options::{Options, Place};
use crate::single::{assemble, failed, helper, original, output, quiet, wait};
use crate::store::{at, let_cache, let_policy, local, own_cache};
use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Error, Ident, Result, Type};

/// The slice of keys.
pub(crate) struct Keys<'f> {
    pub(crate) arg: &'f Arg,
    pub(crate) element: &'f Type,
}

impl<'f> Keys<'f> {
    pub(crate) fn of(function: &'f Function) -> Result<Self> {
        let mut keyed = function.args.iter().filter(|arg| arg.keyed);
        let arg = keyed.next().ok_or_else(|| Error::new(function.sig.ident.span(), NO_SLICE))?;
        if let Some(other) = keyed.next() {
            let message =
                "the key of a `multi` function is an element of its slice alone: skip this, by `skip(…)`";
            return Err(Error::new(other.ident.span(), message));
        }
        match &arg.form {
            Form::Ref(Type::Slice(slice)) => Ok(Self { arg, element: &slice.elem }),
            _ => Err(Error::new(arg.ty.span(), NO_SLICE)),
        }
    }

    /// What an element borrows, if it does.
    pub(crate) fn borrowed(&self) -> Option<&Type> {
        match self.element {
            Type::Reference(reference) => Some(&reference.elem),
            _ => None,
        }
    }

    /// References to all keys, as the cache looks them up.
    fn looked_up(&self) -> TokenStream {
        let ident = &self.arg.ident;
        match self.borrowed() {
            Some(_) => quote!(#ident.iter().copied()),
            None => quote!(#ident.iter()),
        }
    }

    /// A key, from one of these references.
    pub(crate) fn own(&self, options: &Options, reference: &TokenStream) -> TokenStream {
        let dogpile = &options.dogpile;
        let own = match self.borrowed() {
            Some(_) => quote!(#dogpile::__macros::Borrowed::own),
            None => quote!(#dogpile::__macros::Argument::own),
        };
        let own = at(self.element.span(), own);
        quote!(#own(#reference))
    }

    /// An element of the slice, from one of these references.
    fn element(&self, options: &Options, reference: &TokenStream) -> TokenStream {
        match self.borrowed() {
            Some(_) => reference.clone(),
            None => self.own(options, reference),
        }
    }
}

const NO_SLICE: &str = "a `multi` function takes a slice of keys, as in `ids: &[u64]`";

/// The type of the keys in the cache.
pub(crate) fn key_type(function: &Function) -> Option<TokenStream> {
    let keys = Keys::of(function).ok()?;
    Some(match keys.borrowed() {
        Some(to) => owned(to),
        None => {
            let element = keys.element;
            quote!(#element)
        }
    })
}

pub(crate) fn expand(function: &Function, options: &Options) -> Result<TokenStream> {
    let keys = Keys::of(function)?;
    let (dogpile, all) = (&options.dogpile, function.returns.value(&options.dogpile));
    let value = at(function.returns.ty.span(), quote!(<#all as #dogpile::__macros::Values>::Value));
    let items = [
        original(function, options),
        make(function, options, &keys, &value),
        own_cache(function, options, &value),
        get(function, options, &keys, &value),
        set(function, options, &value),
        invalidate(function, options, &keys),
        crate::single::refresh(function),
    ];
    Ok(assemble(function, &items))
}

fn make(function: &Function, options: &Options, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
    let dogpile = &options.dogpile;
    let (everywhere, ..) = function.attributes();
    let (quiet, name, wait) = (quiet(), function.name(), wait(function));
    let (original, names) = (function.path(&function.helper("original")), function.forwarded());
    let run = quote!(#original(#(#names),*) #wait);
    let (force, cache, policy, missing) = (local("force"), local("cache"), local("policy"), local("missing"));
    let (found, error, one) = (local("found"), local("error"), local("one"));

    let checks = checks(function, options, keys);
    let bypass = options.bypass.as_ref().map(|bypass| quote!(if #bypass { return #run; }));
    let (let_cache, let_policy) = (let_cache(function, options), let_policy(function, options, value));
    let anew = anew(function, options, keys, value);
    let looked_up = keys.looked_up();
    let creator = creator(function, options, keys, &quote!(#missing));
    let create = if function.is_async() {
        quote!(try_get_or_create_multi_async)
    } else {
        quote!(try_get_or_create_multi)
    };
    let copy = function.returns.share(dogpile, &quote!(&**#one));
    let all = quote! {
        ::std::iter::Iterator::collect::<::std::vec::Vec<#value>>(
            #found.iter().map(|#one| #copy)
        )
    };
    let all = if function.returns.has_errors() { quote!(::std::result::Result::Ok(#all)) } else { all };
    let failed = failed(function, options, &error);
    let output = output(function);
    let mut args: Vec<_> = function.args.iter().map(|arg| arg.declared.clone()).collect();
    let after_self = usize::from(function.args.first().is_some_and(Arg::is_self));
    args.insert(after_self, quote!(#force: bool));
    let signature = function.signature(function.is_async(), &function.hidden("make"), &args, &output);
    quote! {
        #(#everywhere)*
        #[doc(hidden)]
        #quiet
        #signature {
            #checks
            #bypass
            #let_cache
            if #force {
                #anew
            }
            #let_policy
            let #found = #cache.with(#policy).#create(#looked_up, |#missing| #creator) #wait;
            match #found {
                ::std::result::Result::Ok(#found) => #all,
                ::std::result::Result::Err(#error) => match #dogpile::__macros::failed(#error, #name) {
                    ::std::option::Option::Some(#error) => #failed,
                    ::std::option::Option::None => #run,
                },
            }
        }
    }
}

fn checks(function: &Function, options: &Options, keys: &Keys<'_>) -> TokenStream {
    let dogpile = &options.dogpile;
    let key = key_type(function);
    at(keys.element.span(), quote!(#dogpile::__macros::key_part::<#key>();))
}

/// Calls the function for the keys that are missing.
fn creator(function: &Function, options: &Options, keys: &Keys<'_>, missing: &TokenStream) -> TokenStream {
    let one = local("one");
    creator_of(function, options, keys, missing, &one, &keys.element(options, &quote!(*#one)))
}

/// The same, where `element` makes an element of the slice from `one` of those.
pub(crate) fn creator_of(
    function: &Function,
    options: &Options,
    keys: &Keys<'_>,
    missing: &TokenStream,
    one: &Ident,
    element: &TokenStream,
) -> TokenStream {
    let asked = local("asked");
    // What is given away is cloned for each call: there may be a second one, where another's creation was given up.
    let (mut given, mut passed) = (Vec::new(), Vec::new());
    for (i, arg) in function.args.iter().enumerate() {
        let ident = &arg.ident;
        if std::ptr::eq(arg, keys.arg) {
            passed.push(quote!(&#asked));
        } else if let Form::Value = arg.form {
            let (name, own) = (arg.own_name(i), arg.to_owned(options));
            given.push(quote!(let #name = #own;));
            passed.push(quote!(#name));
        } else {
            passed.push(quote!(#ident));
        }
    }
    let (original, wait) = (function.path(&function.helper("original")), wait(function));
    let call = quote!(#original(#(#passed),*) #wait);
    let call = if function.returns.has_errors() {
        call
    } else {
        quote!(::std::result::Result::Ok::<_, ::std::convert::Infallible>(#call))
    };
    let call = if function.is_async() { quote!(async move { #call }) } else { call };
    quote! {{
        let #asked = ::std::iter::Iterator::collect::<::std::vec::Vec<_>>(#missing.iter().map(|#one| #element));
        #(#given)*
        #call
    }}
}

/// `let __made = …;`, all values anew by one call of the function; and what is returned of them.
pub(crate) fn let_made(
    function: &Function,
    options: &Options,
    keys: &Keys<'_>,
    value: &TokenStream,
) -> (TokenStream, TokenStream) {
    let (dogpile, name, made) = (&options.dogpile, function.name(), local("made"));
    let (original, wait) = (function.path(&function.helper("original")), wait(function));
    let passed = function.args.iter().map(|arg| {
        if let Form::Value = arg.form {
            arg.to_owned(options)
        } else {
            let ident = &arg.ident;
            quote!(#ident)
        }
    });
    let run = quote!(#original(#(#passed),*) #wait);
    let ident = &keys.arg.ident;
    let counted = quote!(#dogpile::__macros::counted(#name, #ident.len(), #made.len()););
    if function.returns.has_errors() {
        (
            quote!(let #made: ::std::vec::Vec<#value> = #run?; #counted),
            quote!(::std::result::Result::Ok(#made)),
        )
    } else {
        (quote!(let #made: ::std::vec::Vec<#value> = #run; #counted), quote!(#made))
    }
}

/// Whether the value `one` is to be stored.
pub(crate) fn keeps(function: &Function, options: &Options, one: &Ident) -> TokenStream {
    let dogpile = &options.dogpile;
    let should =
        options.should_cache.as_ref().map(|should| quote!(&& #dogpile::__macros::keeps(#one, #should)));
    let some = function.returns.drops_none.then(|| quote!(&& ::std::option::Option::is_some(#one)));
    quote!(true #some #should)
}

/// All values anew, by one call of the function.
fn anew(function: &Function, options: &Options, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
    let dogpile = &options.dogpile;
    let (cache, made, one, of) = (local("cache"), local("made"), local("one"), local("of"));
    let (let_made, returned) = let_made(function, options, keys, value);
    let (looked_up, keeps) = (keys.looked_up(), keeps(function, options, &one));
    let (key, options_of) = (keys.own(options, &quote!(#of)), insert_options(options));
    let copy = function.returns.share(dogpile, &quote!(#one));
    quote! {
        #let_made
        for (#of, #one) in ::std::iter::Iterator::zip(#looked_up, &#made) {
            if #keeps {
                ::std::mem::drop(#cache.insert_with(#key, #copy, #options_of));
            }
        }
        return #returned;
    }
}

fn insert_options(options: &Options) -> TokenStream {
    let dogpile = &options.dogpile;
    let fresh = match (&options.place, &options.fresh_by_call) {
        (_, Some(fresh)) => Some(quote!((#fresh)())),
        (Place::Own, None) => None,
        (_, None) => options.fresh(),
    };
    let lives = fresh.map(|fresh| quote!(.ttl(#fresh)));
    quote!(#dogpile::InsertOptions::new()#lives)
}

fn deciding(function: &Function) -> Vec<TokenStream> {
    function.args.iter().filter(|arg| arg.decides).map(|arg| arg.declared.clone()).collect()
}

fn get(function: &Function, options: &Options, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
    let (cache, one, found, let_cache) =
        (local("cache"), local("one"), local("found"), let_cache(function, options));
    let looked_up = keys.looked_up();
    let copy = function.returns.share(&options.dogpile, &quote!(&*#found));
    let got = quote!(::std::option::Option::map(#cache.get(#one), |#found| #copy));
    let (output, got) = if function.returns.drops_none {
        (quote!(#value), quote!(::std::option::Option::flatten(#got)))
    } else {
        (quote!(::std::option::Option<#value>), got)
    };
    let body = quote!(#let_cache ::std::iter::Iterator::collect(#looked_up.map(|#one| #got)));
    let doc = "The values of these keys, in their order, of those that have a fresh one. Makes none.";
    helper(function, doc, "get", false, &deciding(function), &quote!(::std::vec::Vec<#output>), &body)
}

fn set(function: &Function, options: &Options, value: &TokenStream) -> TokenStream {
    let key = key_type(function);
    let (cache, given, of, let_cache) =
        (local("cache"), local("given"), local("of"), let_cache(function, options));
    let options_of = insert_options(options);
    let mut args: Vec<_> = function
        .args
        .iter()
        .filter(|arg| arg.decides && !arg.keyed)
        .map(|arg| arg.declared.clone())
        .collect();
    let after_self = usize::from(function.args.first().is_some_and(|arg| arg.is_self() && arg.decides));
    let pairs = quote!(impl ::std::iter::IntoIterator<Item = (#key, #value)>);
    args.insert(after_self, quote!(#given: #pairs));
    let body = quote! {
        #let_cache
        for (#of, #given) in #given {
            ::std::mem::drop(#cache.insert_with(#of, #given, #options_of));
        }
    };
    let doc = "Stores values for keys, as if the function had returned them.";
    helper(function, doc, "set", false, &args, &quote!(()), &body)
}

fn invalidate(function: &Function, options: &Options, keys: &Keys<'_>) -> TokenStream {
    let (cache, one, let_cache) = (local("cache"), local("one"), let_cache(function, options));
    let looked_up = keys.looked_up();
    let body = quote! {
        #let_cache
        ::std::iter::Iterator::count(::std::iter::Iterator::filter(#looked_up, |#one| #cache.remove(*#one).is_some()))
    };
    let doc = "Takes the values of these keys out, and says of how many keys there were some.";
    helper(function, doc, "invalidate", false, &deciding(function), &quote!(usize), &body)
}
