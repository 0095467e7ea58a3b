//! The function that is memoised: what its arguments are to a key and to a creator, and what it returns.
//!
//! A creator may outlive the call, so it owns what the function gets. Of an argument's type only its outermost form is
//! looked at: `&T` and `Option<&T>` are owned as `T: ToOwned` says (`&str` as `String`, `&[T]` as `Vec<T>`), all else is cloned.
#![forbid(unsafe_code)]

use crate::options::{Key, Options, Place, Role};
use crate::store::at;
use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, Error, Expr, FnArg, GenericArgument, Ident, Item, ItemFn, Lifetime, Pat, PathArguments,
    Receiver, ReceiverKind, Result, ReturnType, Safety, Signature, Type, TypeImplTrait, TypeReference,
    Visibility,
};

/// How an argument is owned.
pub(crate) enum Form {
    Value,
    Ref(Type),
    OptionRef(Type),
}

pub(crate) struct Arg {
    /// `self`, too.
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) form: Form,
    /// Whether the default key has it.
    pub(crate) keyed: bool,
    /// Whether the helpers that only look for the value need it.
    pub(crate) decides: bool,
    /// As it is declared, but for `mut` and attributes.
    pub(crate) declared: TokenStream,
}

impl Arg {
    pub(crate) fn is_self(&self) -> bool {
        self.ident == "self"
    }

    pub(crate) fn owned(&self) -> TokenStream {
        let ty = &self.ty;
        match &self.form {
            Form::Value => quote!(#ty),
            Form::Ref(to) => owned(to),
            Form::OptionRef(to) => {
                let owned = owned(to);
                quote!(::std::option::Option<#owned>)
            }
        }
    }

    /// A copy that owns.
    pub(crate) fn to_owned(&self, options: &Options) -> TokenStream {
        let (ident, ty, dogpile) = (&self.ident, &self.ty, &options.dogpile);
        match &self.form {
            // By a trait of ours, which says what to do where it is not implemented.
            Form::Value => at(ty.span(), quote!(#dogpile::__macros::Argument::own(&#ident))),
            Form::Ref(to) => {
                let own = at(to.span(), quote!(#dogpile::__macros::Borrowed::own));
                quote!(#own(#ident))
            }
            Form::OptionRef(to) => {
                let own = at(to.span(), quote!(#dogpile::__macros::Borrowed::own));
                quote!(::std::option::Option::map(#ident, #own))
            }
        }
    }

    /// The argument again, from the variable that owns it.
    pub(crate) fn pass(&self, from: &Ident) -> TokenStream {
        let owned = self.owned();
        match &self.form {
            Form::Value => quote!(#from),
            Form::Ref(to) => quote!(<#owned as ::std::borrow::Borrow<#to>>::borrow(&#from)),
            Form::OptionRef(to) => quote! {
                ::std::option::Option::map(
                    ::std::option::Option::as_ref(&#from),
                    ::std::borrow::Borrow::<#to>::borrow,
                )
            },
        }
    }

    /// The variable that owns it, in a creator.
    pub(crate) fn own_name(&self, at: usize) -> Ident {
        format_ident!("__arg{at}", span = Span::mixed_site())
    }
}

/// The type that owns what a `&to` borrows.
pub(crate) fn owned(to: &Type) -> TokenStream {
    match to {
        Type::Path(path) if path.path.is_ident("str") => quote!(::std::string::String),
        Type::Slice(slice) => {
            let element = &slice.elem;
            quote!(::std::vec::Vec<#element>)
        }
        _ => quote!(<#to as ::std::borrow::ToOwned>::Owned),
    }
}

pub(crate) struct Returns {
    pub(crate) ty: Type,
    /// It is a `Result`, by its name or by the user's word.
    pub(crate) is_result: bool,
    /// The whole of it is cached, errors too.
    keeps_errors: bool,
    /// The value is an `Option`.
    pub(crate) is_option: bool,
    /// Which is not cached where it is `None`.
    pub(crate) drops_none: bool,
}

impl Returns {
    /// Whether there are errors, which are not cached.
    pub(crate) fn has_errors(&self) -> bool {
        self.is_result && !self.keeps_errors
    }

    /// The type of what is cached, or of the `Vec` of it.
    pub(crate) fn value(&self, dogpile: &TokenStream) -> TokenStream {
        let ty = &self.ty;
        if self.has_errors() {
            at(ty.span(), quote!(<#ty as #dogpile::__macros::Fallible>::Value))
        } else {
            quote!(#ty)
        }
    }

    /// What gives each caller a copy of a value.
    pub(crate) fn share(&self, dogpile: &TokenStream, reference: &TokenStream) -> TokenStream {
        // By a trait of ours, which says at the user's type what to do where it is not implemented.
        at(self.ty.span(), quote!(#dogpile::__macros::Value::share(#reference)))
    }
}

pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    pub(crate) block: Block,
    pub(crate) args: Vec<Arg>,
    /// It stands in an `impl`.
    pub(crate) associated: bool,
    pub(crate) returns: Returns,
}

impl Function {
    pub(crate) fn parse(tokens: TokenStream, options: &Options) -> Result<Self> {
        let item: ItemFn = syn::parse2(tokens).map_err(|error| {
            Error::new(error.span(), "`#[cached]` is for functions and methods that have a body")
        })?;
        let (attrs, vis, sig, block) = (item.attrs, item.vis, item.sig, *item.block);
        refuse_kinds(&sig)?;
        let args = sig.inputs.iter().map(|input| Arg::parse(input, options)).collect::<Result<Vec<_>>>()?;
        let method = args.first().filter(|arg| arg.is_self());
        match (method, options.own_self) {
            (Some(this), None)
                if options.key.is_none() && !options.skip.iter().any(|name| name == "self") =>
            {
                let message = "what is `self` to the key? Say `self = skip` (all instances share their values), \
                               `self = key` (each has its own; needs Hash, Eq and Clone), or `key = …`";
                return Err(Error::new(this.ident.span(), message));
            }
            (None, Some((_, span))) => return Err(Error::new(span, "there is no `self` here: drop this")),
            _ => {}
        }
        let returns = Returns::parse(&sig, options)?;
        let associated = options.associated.is_some() || method.is_some() || names_self(&sig, &block);
        let function = Self { attrs, vis, sig, block, args, associated, returns };
        if let (Some((param, _)), Place::Own) = (function.parameters().next(), &options.place) {
            let message = "a generic function has no cache of its own, since each of its instances would need another: \
                           say `cache = …` or `region = …`";
            return Err(Error::new(param.span(), message));
        }
        Ok(function)
    }

    /// Its type and const parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&Ident, bool)> {
        let types = self.sig.generics.type_params().map(|param| (&param.ident, true));
        types.chain(self.sig.generics.const_params().map(|param| (&param.ident, false)))
    }

    /// A parameter that is neither in the types of the default key nor in what is returned.
    pub(crate) fn undecided(&self) -> Option<&Ident> {
        let mut types: Vec<TokenStream> =
            self.args.iter().filter(|arg| arg.keyed).map(|arg| arg.ty.to_token_stream()).collect();
        types.push(self.returns.ty.to_token_stream());
        let is_named = |param: &Ident| types.iter().any(|ty| names(ty.clone(), param));
        self.parameters().map(|(param, _)| param).find(|param| !is_named(param))
    }

    pub(crate) fn is_async(&self) -> bool {
        self.sig.asyncness.is_some()
    }

    /// Whether types in it may depend on more than itself: then nothing of its types can stand in a `static`.
    pub(crate) fn is_open(&self) -> bool {
        self.associated || self.parameters().next().is_some()
    }

    /// Its name, for messages.
    pub(crate) fn name(&self) -> String {
        self.sig.ident.unraw().to_string()
    }

    /// How a helper is named.
    pub(crate) fn helper(&self, name: &str) -> Ident {
        let own = &self.sig.ident;
        if self.associated { format_ident!("{own}_{name}") } else { Ident::new(name, own.span()) }
    }

    /// How a helper that is none of the user's business is named.
    pub(crate) fn hidden(&self, name: &str) -> Ident {
        let own = &self.sig.ident;
        if self.associated {
            format_ident!("__{own}_{name}")
        } else {
            format_ident!("__{name}", span = own.span())
        }
    }

    /// A helper, as it is called, for the same parameters.
    pub(crate) fn path(&self, helper: &Ident) -> TokenStream {
        let owner = self.owner();
        let params: Vec<&Ident> = self.parameters().map(|(param, _)| param).collect();
        let params = (!params.is_empty()).then(|| quote!(::<#(#params),*>));
        quote!(#owner::#helper #params)
    }

    /// What a helper is called by.
    pub(crate) fn owner(&self) -> TokenStream {
        let own = &self.sig.ident;
        if self.associated { quote!(Self) } else { quote!(#own) }
    }

    /// Each argument's name, in order.
    pub(crate) fn forwarded(&self) -> Vec<&Ident> {
        self.args.iter().map(|arg| &arg.ident).collect()
    }

    /// Attributes that all items have, those of the function itself, and those of its body.
    pub(crate) fn attributes(&self) -> (Vec<&Attribute>, Vec<&Attribute>, Vec<&Attribute>) {
        let is = |attr: &Attribute, names: &[&str]| names.iter().any(|name| attr.path().is_ident(name));
        let everywhere = ["cfg", "allow", "warn", "deny", "forbid"];
        let outside = ["doc", "must_use", "deprecated", "inline", "cold"];
        let all = self.attrs.iter().filter(|attr| is(attr, &everywhere)).collect();
        let outer = self.attrs.iter().filter(|attr| is(attr, &outside)).collect();
        let inner = self.attrs.iter().filter(|attr| !is(attr, &everywhere) && !is(attr, &outside)).collect();
        (all, outer, inner)
    }

    /// `async fn name<…>(…) -> …` and the bounds, of a helper.
    pub(crate) fn signature(
        &self,
        asyncness: bool,
        name: &Ident,
        args: &[TokenStream],
        output: &TokenStream,
    ) -> TokenStream {
        let (generics, _, bounds) = self.sig.generics.split_for_impl();
        let asyncness = asyncness.then(|| quote!(async));
        quote!(#asyncness fn #name #generics (#(#args),*) -> #output #bounds)
    }
}

fn refuse_kinds(sig: &Signature) -> Result<()> {
    let refuse =
        |span: Option<Span>, message: &str| span.map_or(Ok(()), |span| Err(Error::new(span, message)));
    refuse(
        sig.constness.as_ref().map(Spanned::span),
        "a `const` function can't be memoised: it may run where there is no cache",
    )?;
    if let Safety::Unsafe(token) = &sig.safety {
        let message =
            "an `unsafe` function can't be memoised: nobody vouches for the calls in the background";
        return Err(Error::new(token.span(), message));
    }
    refuse(
        sig.abi.as_ref().map(Spanned::span),
        "an `extern` function can't be memoised: memoise one that it calls",
    )?;
    refuse(sig.variadic.as_ref().map(Spanned::span), "a variadic function can't be memoised")
}

impl Arg {
    fn parse(input: &FnArg, options: &Options) -> Result<Self> {
        let (ident, ty, declared) = match input {
            FnArg::Receiver(receiver) => parse_self(receiver)?,
            FnArg::Typed(typed) => {
                let ident = match &*typed.pat {
                    Pat::Ident(pattern) if pattern.by_ref.is_none() && pattern.subpat.is_none() => {
                        pattern.ident.clone()
                    }
                    pattern => {
                        let message =
                            "a memoised function's arguments have plain names: take them apart in its body";
                        return Err(Error::new(pattern.span(), message));
                    }
                };
                let ty = (*typed.ty).clone();
                let declared = quote!(#ident: #ty);
                (ident, ty, declared)
            }
        };
        let form = Form::parse(&ty, options.multi.is_some())?;
        let skipped = options.skip.contains(&ident)
            || (ident == "self" && matches!(options.own_self, Some((Role::Skip, _))))
            || (ident == "self" && options.own_self.is_none());
        let keyed = !skipped && options.key.is_none();
        let decides = keyed || options.looks_at(&ident);
        Ok(Self { ident, ty, form, keyed, decides, declared })
    }
}

fn parse_self(receiver: &Receiver) -> Result<(Ident, Type, TokenStream)> {
    let token = receiver.self_token;
    let ident = Ident::new("self", token.span());
    let this = Ident::new("Self", token.span());
    Ok(match &receiver.kind {
        ReceiverKind::Value => (ident, syn::parse_quote!(#this), quote!(#token)),
        ReceiverKind::Reference(_, _, Some(mutable)) => {
            return Err(Error::new(mutable.span(), MUTABLE));
        }
        ReceiverKind::Reference(and, lifetime, None) => {
            (ident, syn::parse_quote!(#and #lifetime #this), quote!(#and #lifetime #token))
        }
        ReceiverKind::Typed(_, ty) => (ident, (**ty).clone(), quote!(#token: #ty)),
        _ => {
            return Err(Error::new(
                token.span(),
                "a memoised method takes `self`, `&self`, or `self` of a type",
            ));
        }
    })
}

const MUTABLE: &str =
    "a memoised function can't change its arguments: callers who get a cached value would miss the change";

impl Form {
    /// `multi`: elements of a slice may be borrowed.
    fn parse(ty: &Type, multi: bool) -> Result<Self> {
        Self::refuse(ty, "`impl Trait` can't be in a key: name the type, or make it a type parameter")?;
        let form = match ty {
            Type::Reference(reference) => Self::Ref(referent(reference)?),
            ty => match inside(ty, "Option") {
                Some(Type::Reference(reference)) => Self::OptionRef(referent(reference)?),
                _ => Self::Value,
            },
        };
        let rest = match &form {
            Self::Value => ty,
            Self::Ref(Type::Slice(slice)) if multi => match &*slice.elem {
                Type::Reference(element) => &*element.elem,
                element => element,
            },
            Self::Ref(to) | Self::OptionRef(to) => to,
        };
        if let Some(span) = Borrows::find(rest) {
            let message = "a memoised function's creator may outlive the call, so it can't keep what is borrowed in here: \
                           take this owned";
            return Err(Error::new(span, message));
        }
        Ok(form)
    }

    fn refuse(ty: &Type, message: &str) -> Result<()> {
        struct Search(Option<Span>);
        impl<'ast> Visit<'ast> for Search {
            fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
                self.0 = Some(ty.span());
            }
        }
        let mut search = Search(None);
        search.visit_type(ty);
        search.0.map_or(Ok(()), |span| Err(Error::new(span, message)))
    }
}

fn referent(reference: &TypeReference) -> Result<Type> {
    if let Some(mutable) = &reference.mutability {
        return Err(Error::new(mutable.span(), MUTABLE));
    }
    if let Type::TraitObject(object) = &*reference.elem {
        let message = "a memoised function's creator may outlive the call, and can't clone a trait object: take an \
                       `Arc` of it, or a `&Arc`";
        return Err(Error::new(object.span(), message));
    }
    Ok((*reference.elem).clone())
}

/// The `T` of a `name<T, …>`, whatever path leads to it.
pub(crate) fn inside<'t>(ty: &'t Type, name: &str) -> Option<&'t Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == name)?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// Where a type borrows for less than `'static`.
struct Borrows(Option<Span>);

impl Borrows {
    fn find(ty: &Type) -> Option<Span> {
        let mut borrows = Self(None);
        borrows.visit_type(ty);
        borrows.0
    }
}

impl<'ast> Visit<'ast> for Borrows {
    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.0.get_or_insert(lifetime.span());
        }
    }
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        if reference.lifetime.is_none() {
            self.0.get_or_insert(reference.span());
        }
        visit::visit_type_reference(self, reference);
    }
    /// What a function borrows is none of its own.
    fn visit_type_fn_ptr(&mut self, _: &'ast syn::TypeFnPtr) {}
    fn visit_parenthesized_generic_arguments(&mut self, _: &'ast syn::ParenthesizedGenericArguments) {}
}

impl Returns {
    fn parse(sig: &Signature, options: &Options) -> Result<Self> {
        let ty: Type = match &sig.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        };
        Form::refuse(&ty, "a cache needs the type of its values: name it, or box it")?;
        if let Type::Never(never) = &ty {
            return Err(Error::new(never.span(), "a function that returns nothing can't be memoised"));
        }
        if let Some(span) = Borrows::find(&ty) {
            return Err(Error::new(
                span,
                "a cached value outlives the call, so it can't borrow: return it owned",
            ));
        }
        let last = match &ty {
            Type::Path(path) => path.path.segments.last(),
            _ => None,
        };
        let by_name = last.is_some_and(|last| last.ident.unraw().to_string().ends_with("Result"));
        let is_result = by_name || options.result.is_some();
        let first = last.and_then(|last| inside(&ty, &last.ident.to_string()));
        let mut value = if is_result && options.cache_errors.is_none() { first } else { Some(&ty) };
        if options.multi.is_some() {
            value = value.and_then(|value| inside(value, "Vec"));
        }
        let is_option =
            options.option.is_some() || value.is_some_and(|value| inside(value, "Option").is_some());
        Ok(Self {
            ty,
            is_result,
            keeps_errors: options.cache_errors.is_some(),
            is_option,
            drops_none: is_option && options.cache_none.is_none(),
        })
    }
}

impl Options {
    /// Whether what decides where a value is to be found names an argument.
    fn looks_at(&self, ident: &Ident) -> bool {
        let place = match &self.place {
            Place::Own => None,
            Place::Cache(expr) | Place::Region(expr) => Some(expr),
        };
        let key = match &self.key {
            Some(Key::Made(expr)) => Some(expr),
            Some(Key::Format(_)) | None => None,
        };
        let exprs = [place, key, self.namespace.as_ref().map(|(expr, _)| expr), self.keys.as_ref()];
        let in_exprs = exprs.into_iter().flatten().any(|expr| names(expr.to_token_stream(), ident));
        in_exprs || matches!(&self.key, Some(Key::Format(format)) if names_in_format(&format.value(), ident))
    }

    /// Whether anything here names an argument.
    pub(crate) fn mentions(&self, ident: &Ident) -> bool {
        let bypass = self.bypass.as_ref().is_some_and(|expr| names(expr.to_token_stream(), ident));
        bypass || self.looks_at(ident) || self.is_tagged_by(ident)
    }

    /// Whether a tag names an argument.
    pub(crate) fn is_tagged_by(&self, ident: &Ident) -> bool {
        let mut tags = self.tags.iter().flat_map(|(tags, _)| tags);
        tags.any(|tag| names(tag.to_token_stream(), ident))
    }
}

/// Whether `ident` stands in `tokens`, or in a format string among them.
pub(crate) fn names(tokens: TokenStream, ident: &Ident) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(found) => found == *ident,
        TokenTree::Group(group) => names(group.stream(), ident),
        TokenTree::Literal(literal) => names_in_format(&literal.to_string(), ident),
        TokenTree::Punct(_) => false,
    })
}

fn names_in_format(format: &str, ident: &Ident) -> bool {
    let name = ident.unraw().to_string();
    format.match_indices('{').any(|(at, _)| {
        let rest = &format[at + 1..];
        rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.trim_start().starts_with(['}', ':']))
    })
}

/// Whether it stands in an `impl`: only there is a `Self`.
fn names_self(sig: &Signature, block: &Block) -> bool {
    struct Search(bool);
    impl<'ast> Visit<'ast> for Search {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.0 |= ident == "Self";
        }
        fn visit_macro(&mut self, invoked: &'ast syn::Macro) {
            self.0 |= names(invoked.tokens.clone(), &Ident::new("Self", Span::call_site()));
            visit::visit_macro(self, invoked);
        }
        /// An inner `impl` has a `Self` of its own.
        fn visit_item(&mut self, _: &'ast Item) {}
    }
    let mut search = Search(false);
    search.visit_signature(sig);
    search.visit_block(block);
    search.0
}

/// Whether an expression is nothing but a path, and so the same at each call.
pub(crate) fn is_path(expr: &Expr) -> bool {
    matches!(expr, Expr::Path(_)) || matches!(expr, Expr::Reference(reference) if is_path(&reference.expr))
}
