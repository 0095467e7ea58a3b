//! Functions whose values are in a region: keys are text, the store may fail, and a value has tags.
#![forbid(unsafe_code)]

use crate::function::{Arg, Form, Function};
use crate::multi::{self, Keys};
use crate::options::{Key, Options, Place};
use crate::single::{assemble, creator, failed, helper, original, output, quiet, refresh, wait};
use crate::store::{at, local};
use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{Expr, Ident, Lit, Result};

pub(crate) fn expand(function: &Function, options: &Options, region: &Expr) -> Result<TokenStream> {
    let one = Region { function, options, region };
    let (dogpile, all) = (&options.dogpile, function.returns.value(&options.dogpile));
    let items = if options.multi.is_some() {
        let keys = Keys::of(function)?;
        let value = at(function.returns.ty.span(), quote!(<#all as #dogpile::__macros::Values>::Value));
        vec![
            original(function, options),
            one.make_multi(&keys, &value),
            one.keys(&keys),
            one.get_multi(&keys, &value),
            one.set_multi(&keys, &value),
            one.invalidate_multi(&keys),
            refresh(function),
        ]
    } else {
        vec![
            original(function, options),
            one.make(&all),
            one.key(),
            one.get(&all),
            one.set(&all),
            one.invalidate(),
            refresh(function),
        ]
    };
    Ok(assemble(function, &items))
}

struct Region<'m> {
    function: &'m Function,
    options: &'m Options,
    region: &'m Expr,
}

impl Region<'_> {
    /// `let __region = …;`
    fn let_region(&self) -> TokenStream {
        let (dogpile, region, given) = (&self.options.dogpile, local("region"), self.region);
        let face = if self.function.is_async() { quote!(AsyncRegion) } else { quote!(Region) };
        let given = at(given.span(), quote!(&#given));
        quote!(let #region: &#dogpile::#face = #given;)
    }

    /// The names that a key generator gets.
    fn names(&self) -> TokenStream {
        let (dogpile, name) = (&self.options.dogpile, self.function.name());
        let module = quote!(::std::module_path!());
        // Arguments that read alike may be of other types in another instance, and its values so, too.
        let mut params = self.function.parameters().peekable();
        if self.options.keys.is_none() && params.peek().is_some() {
            let params = params.map(|(param, is_type)| match is_type {
                true => quote!(::std::borrow::ToOwned::to_owned(::std::any::type_name::<#param>())),
                false => quote!(::std::string::ToString::to_string(&#param)),
            });
            let owner = if self.function.associated {
                quote!(#dogpile::__macros::method::<Self>(#module, #name))
            } else {
                quote!(::std::borrow::ToOwned::to_owned(#name))
            };
            return quote!((#module, &::std::format!("{}<{}>", #owner, [#(#params),*].join(","))));
        }
        if self.function.associated {
            quote!((#module, &#dogpile::__macros::method::<Self>(#module, #name)))
        } else {
            quote!((#module, #name))
        }
    }

    fn namespace(&self) -> TokenStream {
        match &self.options.namespace {
            Some((namespace, _)) => {
                quote!(::std::option::Option::Some(::std::convert::AsRef::<str>::as_ref(&#namespace)))
            }
            None => quote!(::std::option::Option::None),
        }
    }

    fn generator(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        match &self.options.keys {
            Some(keys) => quote!(&#keys),
            None => quote!(&#dogpile::region::DefaultKeys),
        }
    }

    /// The key, or an error of why there is none.
    fn made_key(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        match &self.options.key {
            Some(Key::Format(format)) => {
                quote!(::std::result::Result::Ok::<_, #dogpile::Error>(::std::format!(#format)))
            }
            Some(Key::Made(made)) => quote! {
                ::std::result::Result::Ok::<_, #dogpile::Error>(
                    ::std::convert::Into::<::std::string::String>::into(#made)
                )
            },
            None => {
                let args = self.function.args.iter().filter(|arg| arg.keyed).map(|arg| {
                    let (name, ident) = (arg.ident.to_string(), &arg.ident);
                    quote!(#dogpile::region::Arg::new(#name, &#ident))
                });
                let (generator, names, namespace) = (self.generator(), self.names(), self.namespace());
                quote!(#dogpile::__macros::region_key(#generator, #names, #namespace, &[#(#args),*]))
            }
        }
    }

    /// The keys of a function of many.
    fn made_keys(&self, keys: &Keys<'_>) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (ident, name) = (&keys.arg.ident, keys.arg.ident.to_string());
        let (generator, names, namespace) = (self.generator(), self.names(), self.namespace());
        quote!(#dogpile::__macros::region_keys(#generator, #names, #namespace, #name, #ident))
    }

    /// `Vec` of the tags.
    fn tags(&self) -> Option<TokenStream> {
        let (tags, _) = self.options.tags.as_ref()?;
        let tags = tags.iter().map(|tag| match tag {
            Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)) => quote!(::std::format!(#literal)),
            tag => quote!(::std::convert::Into::<::std::string::String>::into(#tag)),
        });
        Some(quote!([#(#tags),*]))
    }

    /// `let __with = …;`: the region under the function's policy, with its tags.
    fn let_with(&self, value: &TokenStream) -> TokenStream {
        let (dogpile, options) = (&self.options.dogpile, self.options);
        let (region, with, policy, found) = (local("region"), local("with"), local("policy"), local("found"));
        let tags = self.tags();
        if !options.has_own_policy(self.function) && options.fresh_by_call.is_none() {
            let tags = tags.unwrap_or_else(|| quote!(::std::iter::empty::<::std::string::String>()));
            return quote!(let #with = #region.tagged(#tags););
        }
        let name = self.function.name();
        let base = match &options.policy {
            Some(policy) => quote!((#policy)),
            None => quote!(::std::result::Result::unwrap_or_default(#region.policy())),
        };
        let settings = options.setting_calls();
        let by_call = options.fresh_by_call.as_ref().map(|fresh| quote!(.fresh((#fresh)())));
        let should = options.should_cache.as_ref().map(|should| quote!(.should_cache_of::<#value>(#should)));
        let some = self.function.returns.drops_none.then(|| {
            quote! {
                .should_cache_too(|#found| {
                    #dogpile::__macros::is_some::<<#value as #dogpile::__macros::Maybe>::Value>(#found)
                })
            }
        });
        let tagged = tags.map(|tags| quote!(.tagged(#tags)));
        quote! {
            let #policy = #dogpile::__macros::policy(
                #name,
                #base.to_builder() #settings #by_call #should #some .build(),
            );
            let #with = #region.with(&#policy)#tagged;
        }
    }

    /// What a caller gets of an error that is the store's.
    fn backend_arm(&self) -> Option<TokenStream> {
        let (dogpile, error) = (&self.options.dogpile, local("error"));
        let told = self.options.backend_error.as_ref()?;
        Some(quote! {
            ::std::result::Result::Err(#dogpile::CreateError::Backend(#error)) => ::std::result::Result::Err((#told)(#error)),
        })
    }

    fn checks(&self, value: &TokenStream, keyed: &TokenStream) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let span = self.function.returns.ty.span();
        let stored = at(span, quote!(#dogpile::__macros::storable::<#value>();));
        quote!(#keyed #stored)
    }

    fn run(&self) -> TokenStream {
        let original = self.function.path(&self.function.helper("original"));
        let (names, wait) = (self.function.forwarded(), wait(self.function));
        quote!(#original(#(#names),*) #wait)
    }

    /// `__make`, of its body.
    fn made(&self, body: &TokenStream) -> TokenStream {
        let function = self.function;
        let (everywhere, ..) = function.attributes();
        let (quiet, force) = (quiet(), local("force"));
        let mut args: Vec<_> = function.args.iter().map(|arg| arg.declared.clone()).collect();
        let after_self = usize::from(function.args.first().is_some_and(Arg::is_self));
        args.insert(after_self, quote!(#force: bool));
        let name = function.hidden("make");
        let signature = function.signature(function.is_async(), &name, &args, &output(function));
        quote! {
            #(#everywhere)*
            #[doc(hidden)]
            #quiet
            #signature {
                #body
            }
        }
    }

    /// `let #name = key, or leave`.
    fn let_keyed(&self, name: &Ident, made: &TokenStream) -> TokenStream {
        let error = local("error");
        let run = self.run();
        let without = match &self.options.backend_error {
            Some(told) => quote!(::std::result::Result::Err((#told)(#error))),
            None => run,
        };
        quote! {
            // Apart, so that what the key was made from is gone before anything is waited for.
            let #name = #made;
            let #name = match #name {
                ::std::result::Result::Ok(#name) => #name,
                ::std::result::Result::Err(#error) => return #without,
            };
        }
    }

    fn bypass(&self) -> Option<TokenStream> {
        let run = self.run();
        self.options.bypass.as_ref().map(|bypass| quote!(if #bypass { return #run; }))
    }

    fn make(&self, value: &TokenStream) -> TokenStream {
        let (function, options) = (self.function, self.options);
        let dogpile = &options.dogpile;
        let (name, wait, run) = (function.name(), wait(function), self.run());
        let (force, key, with) = (local("force"), local("key"), local("with"));
        let (prepare, found, error) = (local("prepare"), local("found"), local("error"));
        let keyed = function.args.iter().filter(|arg| arg.keyed).map(|arg| {
            let ty = match &arg.form {
                Form::Ref(to) => to,
                Form::Value | Form::OptionRef(_) => &arg.ty,
            };
            at(ty.span(), quote!(#dogpile::__macros::region_key_part::<#ty>();))
        });
        let checks = self.checks(value, &quote!(#(#keyed)*));
        let (bypass, let_region, let_with) = (self.bypass(), self.let_region(), self.let_with(value));
        let let_key = self.let_keyed(&key, &self.made_key());
        let creator = creator(function, options);
        let stored = function.returns.share(dogpile, &quote!(&*#found));
        let stored =
            if function.returns.has_errors() { quote!(::std::result::Result::Ok(#stored)) } else { stored };
        let (backend, failed) = (self.backend_arm(), failed(function, options, &error));
        self.made(&quote! {
            #checks
            #bypass
            #let_key
            #let_region
            #let_with
            let #prepare = || #creator;
            let #found: ::std::result::Result<::std::sync::Arc<#value>, _> = if #force {
                #with.memoised_anew(&#key, #prepare) #wait
            } else {
                #with.memoised(&#key, #prepare) #wait
            };
            match #found {
                ::std::result::Result::Ok(#found) => #stored,
                #backend
                ::std::result::Result::Err(#error) => match #dogpile::__macros::failed(#error, #name) {
                    ::std::option::Option::Some(#error) => #failed,
                    ::std::option::Option::None => #run,
                },
            }
        })
    }

    fn key(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let doc =
            "The key of the value for these arguments.\n\n# Errors\nIf an argument can't be part of a key.";
        let output = quote!(::std::result::Result<::std::string::String, #dogpile::Error>);
        self.helper(doc, "key", false, &self.deciding(), &output, &self.made_key())
    }

    fn keys(&self, keys: &Keys<'_>) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let doc = "The keys of the values, in the order of the arguments.\n\n# Errors\nIf one can't be part of a key.";
        let output = quote!(::std::result::Result<::std::vec::Vec<::std::string::String>, #dogpile::Error>);
        self.helper(doc, "key", false, &self.deciding(), &output, &self.made_keys(keys))
    }

    fn deciding(&self) -> Vec<TokenStream> {
        self.function.args.iter().filter(|arg| arg.decides).map(|arg| arg.declared.clone()).collect()
    }

    fn helper(
        &self,
        doc: &str,
        name: &str,
        may_wait: bool,
        args: &[TokenStream],
        output: &TokenStream,
        body: &TokenStream,
    ) -> TokenStream {
        helper(self.function, doc, name, may_wait && self.function.is_async(), args, output, body)
    }

    fn look_options(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let fresh = self.fresh().map(|fresh| quote!(.fresh(#fresh)));
        quote!(#dogpile::region::GetOptions::new()#fresh)
    }

    fn fresh(&self) -> Option<TokenStream> {
        let by_call = self.options.fresh_by_call.as_ref().map(|fresh| quote!((#fresh)()));
        by_call.or_else(|| self.options.fresh())
    }

    fn store_options(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let tags = self.tags().map(|tags| quote!(.tags(#tags)));
        let fresh = self.fresh().map(|fresh| quote!(.ttl(#fresh)));
        quote!(#dogpile::region::SetOptions::new()#fresh #tags)
    }

    fn get(&self, value: &TokenStream) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, key, let_region) = (local("region"), local("key"), self.let_region());
        let (made, look, wait) = (self.made_key(), self.look_options(), wait(self.function));
        let found = quote!(#dogpile::__macros::copied(#region.get_with::<#value>(&#key, #look) #wait ?));
        let (output, found) = if self.function.returns.drops_none {
            (quote!(#value), quote!(::std::option::Option::flatten(#found)))
        } else {
            (quote!(::std::option::Option<#value>), found)
        };
        let body = quote! {
            #let_region
            let #key = #made?;
            ::std::result::Result::Ok(#found)
        };
        let doc = "The value for these arguments, if there is a fresh one. Makes none.\n\n# Errors\nAs the region's `get`.";
        let output = quote!(::std::result::Result<#output, #dogpile::Error>);
        self.helper(doc, "get", true, &self.deciding(), &output, &body)
    }

    fn set(&self, value: &TokenStream) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, key, given, let_region) =
            (local("region"), local("key"), local("value"), self.let_region());
        let (made, store, wait) = (self.made_key(), self.store_options(), wait(self.function));
        let mut args = self.setting();
        let after_self =
            usize::from(self.function.args.first().is_some_and(|arg| arg.is_self() && self.sets(arg)));
        args.insert(after_self, quote!(#given: #value));
        let body = quote! {
            #let_region
            let #key = #made?;
            #region.set_with(&#key, #given, #store) #wait .map(::std::mem::drop)
        };
        let doc = "Stores a value for these arguments, as if the function had returned it.\n\n# Errors\nAs the region's `set`.";
        self.helper(doc, "set", true, &args, &quote!(::std::result::Result<(), #dogpile::Error>), &body)
    }

    /// Whether `set` needs an argument: tags may tell more than the key.
    fn sets(&self, arg: &Arg) -> bool {
        arg.decides || self.options.is_tagged_by(&arg.ident)
    }

    fn setting(&self) -> Vec<TokenStream> {
        let args = self.function.args.iter().filter(|arg| self.sets(arg));
        args.map(|arg| arg.declared.clone()).collect()
    }

    fn invalidate(&self) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, key, let_region) = (local("region"), local("key"), self.let_region());
        let (made, wait) = (self.made_key(), wait(self.function));
        let body = quote! {
            #let_region
            let #key = #made?;
            #region.delete(&#key) #wait
        };
        let doc = "Takes the value for these arguments out, and says whether there was one, as far as the store can tell. A \
                   call that is making one now keeps it for itself and for who waits.\n\n# Errors\nAs the region's `delete`.";
        let output = quote!(::std::result::Result<bool, #dogpile::Error>);
        self.helper(doc, "invalidate", true, &self.deciding(), &output, &body)
    }

    fn make_multi(&self, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
        let (function, options) = (self.function, self.options);
        let dogpile = &options.dogpile;
        let (name, wait, run, force) = (function.name(), wait(function), self.run(), local("force"));
        let (all, borrowed, places) = (local("keys"), local("borrowed"), local("places"));
        let (with, missing, one) = (local("with"), local("missing"), local("one"));
        let (found, error) = (local("found"), local("error"));
        let element = keys.element;
        let keyed = at(element.span(), quote!(#dogpile::__macros::region_key_part::<#element>();));
        let checks = self.checks(value, &keyed);
        let (bypass, let_region, let_with) = (self.bypass(), self.let_region(), self.let_with(value));
        let let_keys = self.let_keyed(&all, &self.made_keys(keys));
        let ident = &keys.arg.ident;
        let of = match keys.borrowed() {
            Some(_) => quote!(#ident[#places[*#one]]),
            None => keys.own(options, &quote!(&#ident[#places[*#one]])),
        };
        let creator = multi::creator_of(function, options, keys, &quote!(#missing), &one, &of);
        let copy = function.returns.share(dogpile, &quote!(&**#one));
        let shared = quote! {
            ::std::iter::Iterator::collect::<::std::vec::Vec<#value>>(
                #found.iter().map(|#one| #copy)
            )
        };
        let shared =
            if function.returns.has_errors() { quote!(::std::result::Result::Ok(#shared)) } else { shared };
        let (backend, failed) = (self.backend_arm(), failed(function, options, &error));
        let anew = self.anew(keys, value);
        self.made(&quote! {
            #checks
            #bypass
            #let_region
            #let_keys
            if #force {
                #anew
            }
            #let_with
            let (#borrowed, #places) = #dogpile::__macros::positions(&#all);
            let #places = &#places;
            let #found: ::std::result::Result<::std::vec::Vec<::std::sync::Arc<#value>>, _> =
                #with.try_get_or_create_multi(&#borrowed, |#missing| #creator) #wait;
            match #found {
                ::std::result::Result::Ok(#found) => #shared,
                #backend
                ::std::result::Result::Err(#error) => match #dogpile::__macros::failed(#error, #name) {
                    ::std::option::Option::Some(#error) => #failed,
                    ::std::option::Option::None => #run,
                },
            }
        })
    }

    /// All values anew, by one call of the function and one write.
    fn anew(&self, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
        let (region, all, made, one) = (local("region"), local("keys"), local("made"), local("one"));
        let (let_made, returned) = multi::let_made(self.function, self.options, keys, value);
        let keeps = multi::keeps(self.function, self.options, &one);
        let (store, wait) = (self.store_options(), wait(self.function));
        let copy = self.function.returns.share(&self.options.dogpile, &quote!(#one));
        // What can't be stored is returned all the same.
        quote! {
            #let_made
            ::std::mem::drop(#region.set_multi_with(
                ::std::iter::Iterator::collect::<::std::vec::Vec<(&str, #value)>>(
                    ::std::iter::Iterator::map(
                        ::std::iter::Iterator::filter(
                            ::std::iter::Iterator::zip(#all.iter(), &#made),
                            |(_, #one)| { let #one: &#value = #one; #keeps },
                        ),
                        |(#all, #one)| (#all.as_str(), #copy),
                    )
                ),
                #store,
            ) #wait);
            return #returned;
        }
    }

    fn get_multi(&self, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, all, let_region) = (local("region"), local("keys"), self.let_region());
        let (made, look, wait) = (self.made_keys(keys), self.look_options(), wait(self.function));
        let copied = quote!(#dogpile::__macros::copied);
        let (output, copied) = if self.function.returns.drops_none {
            let one = local("one");
            (quote!(#value), quote!(|#one| ::std::option::Option::flatten(#copied(#one))))
        } else {
            (quote!(::std::option::Option<#value>), copied)
        };
        let body = quote! {
            #let_region
            let #all = #made?;
            let #all = #region.get_multi_with::<#value>(&#dogpile::__macros::positions(&#all).0, #look) #wait ?;
            ::std::result::Result::Ok(::std::iter::Iterator::collect(
                ::std::iter::Iterator::map(::std::iter::IntoIterator::into_iter(#all), #copied)
            ))
        };
        let doc = "The values of these keys, in their order, of those that have a fresh one. Makes none.\n\n# Errors\nAs the \
                   region's `get_multi`.";
        let output = quote!(::std::result::Result<::std::vec::Vec<#output>, #dogpile::Error>);
        self.helper(doc, "get", true, &self.deciding(), &output, &body)
    }

    fn set_multi(&self, keys: &Keys<'_>, value: &TokenStream) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, all, given, let_region) =
            (local("region"), local("keys"), local("given"), self.let_region());
        let (made, store, wait) = (self.made_keys(keys), self.store_options(), wait(self.function));
        let (key, ident) = (multi::key_type(self.function), &keys.arg.ident);
        let args = self.function.args.iter().filter(|arg| self.sets(arg) && !arg.keyed);
        let mut args: Vec<_> = args.map(|arg| arg.declared.clone()).collect();
        let after_self =
            usize::from(self.function.args.first().is_some_and(|arg| arg.is_self() && self.sets(arg)));
        args.insert(after_self, quote!(#given: impl ::std::iter::IntoIterator<Item = (#key, #value)>));
        let body = quote! {
            let (#ident, #given): (::std::vec::Vec<#key>, ::std::vec::Vec<#value>) =
                ::std::iter::Iterator::unzip(::std::iter::IntoIterator::into_iter(#given));
            let #ident = &#ident[..];
            #let_region
            let #all = #made?;
            #region.set_multi_with(
                ::std::iter::Iterator::collect::<::std::vec::Vec<(&str, #value)>>(
                    ::std::iter::Iterator::zip(#dogpile::__macros::positions(&#all).0.into_iter(), #given)
                ),
                #store,
            ) #wait
        };
        let doc = "Stores values for keys, as if the function had returned them.\n\n# Errors\nAs the region's `set_multi`.";
        self.helper(doc, "set", true, &args, &quote!(::std::result::Result<(), #dogpile::Error>), &body)
    }

    fn invalidate_multi(&self, keys: &Keys<'_>) -> TokenStream {
        let dogpile = &self.options.dogpile;
        let (region, all, let_region) = (local("region"), local("keys"), self.let_region());
        let (made, wait) = (self.made_keys(keys), wait(self.function));
        let body = quote! {
            #let_region
            let #all = #made?;
            #region.delete_multi(&#dogpile::__macros::positions(&#all).0) #wait
        };
        let doc = "Takes the values of these keys out.\n\n# Errors\nAs the region's `delete_multi`.";
        let output = quote!(::std::result::Result<(), #dogpile::Error>);
        self.helper(doc, "invalidate", true, &self.deciding(), &output, &body)
    }
}

/// The region of a function, if its values are in one.
pub(crate) fn of(options: &Options) -> Option<&Expr> {
    match &options.place {
        Place::Region(region) => Some(region),
        Place::Own | Place::Cache(_) => None,
    }
}
