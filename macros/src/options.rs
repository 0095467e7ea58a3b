//! What stands in the attribute's parentheses.
//!
//! Settings are kept in the order of their user, each with the token to complain about. What can be told to contradict
//! something while the user's crate is compiled, is told then, at that token.
#![forbid(unsafe_code)]

use crate::function::Function;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote};
use std::time::Duration;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, Expr, Ident, Lit, LitStr, Path, Result, Token, UnOp, parenthesized};

/// Where the values are.
pub(crate) enum Place {
    Own,
    Cache(Expr),
    Region(Expr),
}

/// How a setting is written.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// `"10m"`, or an expression.
    Span,
    /// The same, or a function that is asked at each call.
    SpanOrCall,
    /// From 0 to below 1, or an expression.
    Jitter,
    /// Between 0 and 1, `xfetch`, or an expression.
    Early,
    /// A number, or `unbounded`.
    Entries,
    Any,
}

/// The settings of a cache of the function's own, by the names of `CacheBuilder`.
const OWN: &[(&str, Kind)] = &[
    ("max_entries", Kind::Entries),
    ("max_weight", Kind::Any),
    ("weigher", Kind::Any),
    ("time_to_idle", Kind::Span),
    ("expire_after", Kind::Any),
    ("clock", Kind::Any),
];

/// The settings of a policy, by the names of `PolicyBuilder`.
const POLICY: &[(&str, Kind)] = &[
    ("fresh", Kind::SpanOrCall),
    ("stale", Kind::Span),
    ("stale_if_error", Kind::Span),
    ("hold_back", Kind::Span),
    ("wait", Kind::Span),
    ("soft_timeout", Kind::Span),
    ("error_ttl", Kind::Span),
    ("jitter", Kind::Jitter),
    ("early", Kind::Early),
    ("freshness", Kind::Any),
    ("runner", Kind::Any),
    ("timer", Kind::Any),
];

/// All other options: what stands here is what an unknown one is told.
const OTHERS: &[&str] = &[
    "cache",
    "region",
    "key",
    "skip",
    "self",
    "policy",
    "should_cache",
    "bypass",
    "share_error",
    "cache_none",
    "cache_errors",
    "result",
    "option",
    "multi",
    "associated",
    "namespace",
    "tags",
    "keys",
    "backend_error",
    "crate",
];

/// What others call it, and how it is called here.
const ALIASES: &[(&[&str], &str)] = &[
    (
        &["ttl", "ttl_secs", "ttl_millis", "time", "time_to_live", "expiration_time", "expire"],
        "it is `fresh = \"10m\"` here",
    ),
    (&["size", "max_size", "capacity", "max_capacity", "maxsize"], "it is `max_entries = 1_000` here"),
    (&["convert", "make_key"], "it is `key = …` here"),
    (&["function_key_generator"], "it is `keys = …` here"),
    (&["should_cache_fn", "condition"], "it is `should_cache = |value| …` here"),
    (&["result_fallback"], "it is `stale_if_error = \"1h\"` here"),
    (&["sync_writes"], "of several callers one runs the function here, always: drop it"),
    (&["refresh"], "call `refresh(…)`, beside the function"),
    (&["early_ttl"], "it is `early = 0.8` here"),
];

pub(crate) struct Setting {
    name: Ident,
    value: Value,
}

enum Value {
    Is(TokenStream),
    Fraction(Expr),
    XFetch,
    /// There is no limit.
    Unbounded,
}

impl Setting {
    /// `.name(value)`, in a chain of a builder's.
    fn call(&self, dogpile: &TokenStream) -> TokenStream {
        let name = &self.name;
        match &self.value {
            Value::Is(value) => quote!(.#name(#value)),
            Value::Fraction(part) => quote!(.#name(#dogpile::Early::Fraction(#part))),
            Value::XFetch => quote!(.#name(#dogpile::Early::XFetch { beta: 1.0 })),
            Value::Unbounded => TokenStream::new(),
        }
    }
}

pub(crate) enum Key {
    /// `"user:{id}"`.
    Format(LitStr),
    Made(Expr),
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Role {
    Key,
    Skip,
}

pub(crate) struct Options {
    pub(crate) place: Place,
    pub(crate) own: Vec<Setting>,
    pub(crate) policy_settings: Vec<Setting>,
    pub(crate) policy: Option<Expr>,
    /// A `fresh` that is asked at each call.
    pub(crate) fresh_by_call: Option<Expr>,
    pub(crate) key: Option<Key>,
    pub(crate) skip: Vec<Ident>,
    pub(crate) own_self: Option<(Role, Span)>,
    pub(crate) should_cache: Option<Expr>,
    pub(crate) bypass: Option<Expr>,
    pub(crate) share_error: Option<Expr>,
    pub(crate) cache_none: Option<Span>,
    pub(crate) cache_errors: Option<Span>,
    pub(crate) result: Option<Span>,
    pub(crate) option: Option<Span>,
    pub(crate) multi: Option<Span>,
    pub(crate) associated: Option<Span>,
    pub(crate) namespace: Option<(Expr, Span)>,
    pub(crate) tags: Option<(Vec<Expr>, Span)>,
    /// A generator of keys.
    pub(crate) keys: Option<Expr>,
    pub(crate) backend_error: Option<Expr>,
    /// The path of `dogpile`.
    pub(crate) dogpile: TokenStream,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Self {
            place: Place::Own,
            own: Vec::new(),
            policy_settings: Vec::new(),
            policy: None,
            fresh_by_call: None,
            key: None,
            skip: Vec::new(),
            own_self: None,
            should_cache: None,
            bypass: None,
            share_error: None,
            cache_none: None,
            cache_errors: None,
            result: None,
            option: None,
            multi: None,
            associated: None,
            namespace: None,
            tags: None,
            keys: None,
            backend_error: None,
            dogpile: quote!(::dogpile),
        };
        let mut seen: Vec<Ident> = Vec::new();
        while !input.is_empty() {
            let name = input.call(Ident::parse_any)?;
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            options.option(&name, input)?;
            seen.push(name);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        options.check_settings()?;
        Ok(options)
    }
}

impl Options {
    fn option(&mut self, name: &Ident, input: ParseStream<'_>) -> Result<()> {
        let text = name.to_string();
        if let Some((_, kind)) = OWN.iter().find(|(known, _)| *known == text) {
            let value = setting(*kind, equals(name, input)?)?;
            self.own.push(Setting { name: name.clone(), value });
            return Ok(());
        }
        if let Some((_, kind)) = POLICY.iter().find(|(known, _)| *known == text) {
            let value = equals(name, input)?;
            if *kind == Kind::SpanOrCall && is_call(&value) {
                self.fresh_by_call = Some(value);
            } else {
                self.policy_settings.push(Setting { name: name.clone(), value: setting(*kind, value)? });
            }
            return Ok(());
        }
        match text.as_str() {
            "cache" | "region" => {
                if !matches!(self.place, Place::Own) {
                    return Err(Error::new(
                        name.span(),
                        "`cache` and `region` are both given: the values are in one of them",
                    ));
                }
                let value = equals(name, input)?;
                self.place = if text == "cache" { Place::Cache(value) } else { Place::Region(value) };
            }
            "key" => {
                self.key = Some(match equals(name, input)? {
                    Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)) => {
                        let Lit::Str(format) = literal.lit else { unreachable!("it was just looked at") };
                        Key::Format(format)
                    }
                    value => Key::Made(value),
                });
            }
            "skip" => {
                let listed;
                if !input.peek(syn::token::Paren) {
                    return Err(Error::new(
                        name.span(),
                        "name the arguments that are no part of the key: `skip(connection)`",
                    ));
                }
                parenthesized!(listed in input);
                self.skip = listed.parse_terminated(Ident::parse_any, Token![,])?.into_iter().collect();
            }
            "self" => {
                input.parse::<Token![=]>()?;
                let role = input.call(Ident::parse_any)?;
                self.own_self = Some(match role.to_string().as_str() {
                    "skip" => (Role::Skip, name.span()),
                    "key" => (Role::Key, name.span()),
                    _ => return Err(Error::new(role.span(), "`self` is `skip` or `key`")),
                });
            }
            "policy" => self.policy = Some(equals(name, input)?),
            "should_cache" => self.should_cache = Some(equals(name, input)?),
            "keys" => self.keys = Some(equals(name, input)?),
            "backend_error" => self.backend_error = Some(equals(name, input)?),
            "bypass" => self.bypass = Some(equals(name, input)?),
            "share_error" => self.share_error = Some(equals(name, input)?),
            "cache_none" => self.cache_none = Some(flag(name, input)?),
            "cache_errors" => self.cache_errors = Some(flag(name, input)?),
            "result" => self.result = Some(flag(name, input)?),
            "option" => self.option = Some(flag(name, input)?),
            "multi" => self.multi = Some(flag(name, input)?),
            "associated" => self.associated = Some(flag(name, input)?),
            "namespace" => self.namespace = Some((equals(name, input)?, name.span())),
            "tags" => {
                let Expr::Array(tags) = equals(name, input)? else {
                    return Err(Error::new(name.span(), "`tags` is a list: `tags = [\"user:{id}\"]`"));
                };
                self.tags = Some((tags.elems.into_iter().collect(), name.span()));
            }
            "crate" => {
                input.parse::<Token![=]>()?;
                self.dogpile = input.call(Path::parse_mod_style)?.into_token_stream();
            }
            _ => {
                if let Some((_, advice)) = ALIASES.iter().find(|(names, _)| names.contains(&text.as_str())) {
                    return Err(Error::new(name.span(), format!("there is no option `{text}`: {advice}")));
                }
                let accepted: Vec<&str> =
                    OTHERS.iter().chain(OWN.iter().chain(POLICY).map(|(name, _)| name)).copied().collect();
                let message = format!("there is no option `{text}`; there are {}", accepted.join(", "));
                return Err(Error::new(name.span(), message));
            }
        }
        Ok(())
    }

    fn span_of(&self, name: &str) -> Option<Span> {
        let all = self.own.iter().chain(&self.policy_settings);
        all.map(|setting| &setting.name).find(|known| *known == name).map(Ident::span)
    }

    /// Settings that contradict each other, whatever the function.
    fn check_settings(&self) -> Result<()> {
        let refuse =
            |span: Option<Span>, message: &str| span.map_or(Ok(()), |span| Err(Error::new(span, message)));
        let own = matches!(self.place, Place::Own);
        if !own && let Some(setting) = self.own.first() {
            let name = &setting.name;
            let message =
                format!("`{name}` is of a cache of the function's own: set it where this one is built");
            return Err(Error::new(name.span(), message));
        }
        if !matches!(self.place, Place::Region(_)) {
            let message = "it is for keys in a region: say `region = …`, or drop it";
            refuse(self.namespace.as_ref().map(|(_, span)| *span), message)?;
            refuse(self.tags.as_ref().map(|(_, span)| *span), message)?;
            refuse(self.keys.as_ref().map(Spanned::span), message)?;
            refuse(self.backend_error.as_ref().map(Spanned::span), message)?;
        }
        if self.policy.is_some()
            && let Some(setting) = self.policy_settings.first()
        {
            let message =
                format!("`policy` says all of this: set `{0}` there, or drop `policy`", setting.name);
            return Err(Error::new(setting.name.span(), message));
        }
        if let (Some(policy), Some(_)) = (&self.policy, &self.fresh_by_call) {
            return Err(Error::new(
                policy.span(),
                "`policy` says how long values are fresh: drop it, or `fresh`",
            ));
        }
        let has = |name: &str| self.span_of(name).is_some();
        if has("max_entries") {
            refuse(self.span_of("max_weight"), "a cache has one limit: drop `max_weight`, or `max_entries`")?;
        }
        if !has("weigher") {
            refuse(
                self.span_of("max_weight"),
                "what does an entry weigh? Add `weigher = |key, value| …`, or use `max_entries`",
            )?;
        }
        if !has("max_weight") {
            refuse(
                self.span_of("weigher"),
                "a `weigher` without `max_weight` has nothing to weigh for: add it, or drop the `weigher`",
            )?;
        }
        if own && self.policy.is_none() {
            let expires = has("fresh") || self.fresh_by_call.is_some() || has("expire_after");
            if !expires {
                let message = "nothing expires here: say `fresh = \"10m\"`, too, or drop this";
                for name in ["stale", "stale_if_error", "jitter", "early"] {
                    refuse(self.span_of(name), message)?;
                }
            }
            if !has("stale") && !has("early") {
                refuse(
                    self.span_of("soft_timeout"),
                    "there is nothing to return when it ends: say `stale = \"1h\"`, too",
                )?;
            }
            if !has("stale_if_error") {
                refuse(
                    self.span_of("hold_back"),
                    "the next try is held back where a stale value stands in for an error: say `stale_if_error = \"1h\"`, too; `error_ttl` remembers errors",
                )?;
            }
        }
        Ok(())
    }

    /// Options that don't fit the function.
    pub(crate) fn check(&self, function: &Function) -> Result<()> {
        let refuse =
            |span: Option<Span>, message: &str| span.map_or(Ok(()), |span| Err(Error::new(span, message)));
        if !function.returns.has_errors() {
            let none =
                "the function returns no `Result`: say `result` if its type is an alias of one, or drop this";
            for name in ["stale_if_error", "hold_back", "error_ttl"] {
                refuse(self.span_of(name), none)?;
            }
            refuse(self.share_error.as_ref().map(Spanned::span), none)?;
            refuse(self.backend_error.as_ref().map(Spanned::span), none)?;
        }
        if !function.returns.is_result {
            refuse(self.cache_errors, "the function returns no `Result`: there are no errors to cache")?;
        }
        if !function.returns.is_option {
            refuse(
                self.cache_none,
                "the function returns no `Option`: say `option` if its type is an alias of one, or drop this",
            )?;
        }
        if let (Some(_), Some((Role::Key, span))) = (self.multi, self.own_self) {
            let message = "the key of a `multi` function is an element of its slice alone: say `self = skip`";
            return Err(Error::new(span, message));
        }
        if let (Place::Cache(_), None, Some(param)) = (&self.place, &self.key, function.undecided()) {
            let message = "neither the arguments of the key nor what is returned tell this one from others, whose values would \
                           be taken for its own: say `key = …`";
            return Err(Error::new(param.span(), message));
        }
        if self.multi.is_some() {
            let span = match &self.key {
                Some(Key::Format(format)) => Some(format.span()),
                Some(Key::Made(expr)) => Some(expr.span()),
                None => None,
            };
            refuse(span, "the keys of a `multi` function are the elements of its slice")?;
        }
        if self.key.is_some() {
            let message = "it is part of the default key: put it into `key`, or drop `key`";
            refuse(self.namespace.as_ref().map(|(_, span)| *span), message)?;
            refuse(self.keys.as_ref().map(Spanned::span), "`key` says what the key is: drop this, or `key`")?;
        }
        if let (Some(_), Some((Role::Key, span))) = (&self.key, self.own_self) {
            return Err(Error::new(span, "`key` says all that is in the key: drop this, or `key`"));
        }
        for name in &self.skip {
            if !function.args.iter().any(|arg| arg.ident == *name) {
                return Err(Error::new(name.span(), format!("there is no argument `{name}`")));
            }
        }
        Ok(())
    }

    /// Whether calls go by another policy than the cache's.
    pub(crate) fn has_own_policy(&self, function: &Function) -> bool {
        let has_settings =
            self.policy.is_some() || !self.policy_settings.is_empty() || self.should_cache.is_some();
        has_settings || function.returns.drops_none
    }

    /// How long what is put in is fresh, if that is one of the settings.
    pub(crate) fn fresh(&self) -> Option<TokenStream> {
        let fresh = self.policy_settings.iter().find(|setting| setting.name == "fresh")?;
        match &fresh.value {
            Value::Is(span) => Some(span.clone()),
            _ => None,
        }
    }

    /// What is changed of a policy's builder.
    pub(crate) fn policy_calls(&self, function: &Function) -> TokenStream {
        let settings = self.setting_calls();
        let should_cache = self.should_cache.as_ref().map(|should| quote!(.should_cache(#should)));
        let drops_none =
            function.returns.drops_none.then(|| quote!(.should_cache_too(::std::option::Option::is_some)));
        quote!(#settings #should_cache #drops_none)
    }

    /// The settings among them.
    pub(crate) fn setting_calls(&self) -> TokenStream {
        self.policy_settings.iter().map(|setting| setting.call(&self.dogpile)).collect()
    }

    /// The chain of settings of a cache of the function's own.
    pub(crate) fn cache_calls(&self) -> TokenStream {
        let calls: TokenStream = self.own.iter().map(|setting| setting.call(&self.dogpile)).collect();
        let bounded = self.span_of("max_entries").is_some() || self.span_of("max_weight").is_some();
        if bounded { calls } else { quote!(.max_entries(10_000) #calls) }
    }
}

/// The value after `name =`.
fn equals(name: &Ident, input: ParseStream<'_>) -> Result<Expr> {
    if !input.peek(Token![=]) {
        return Err(Error::new(name.span(), format!("`{name}` needs a value: `{name} = …`")));
    }
    input.parse::<Token![=]>()?;
    input.parse()
}

/// The place of `name`, which takes no value.
fn flag(name: &Ident, input: ParseStream<'_>) -> Result<Span> {
    if input.peek(Token![=]) || input.peek(syn::token::Paren) {
        return Err(Error::new(name.span(), format!("`{name}` takes no value: it is there or not")));
    }
    Ok(name.span())
}

/// A closure, or the path of a function: one whose name is not that of a constant.
fn is_call(value: &Expr) -> bool {
    match value {
        Expr::Closure(_) => true,
        Expr::Path(path) => path.path.segments.last().is_some_and(|last| {
            last.ident.unraw().to_string().starts_with(|first: char| first.is_lowercase())
        }),
        _ => false,
    }
}

fn setting(kind: Kind, value: Expr) -> Result<Value> {
    let literal = match &value {
        Expr::Lit(literal) => Some(&literal.lit),
        _ => None,
    };
    let number = as_number(&value);
    Ok(match kind {
        Kind::Span | Kind::SpanOrCall => match literal {
            Some(Lit::Str(text)) => Value::Is(span(text)?),
            Some(_) => {
                let message = "say the unit, as in \"60s\", \"10m\", \"1h 30m\" or \"100ms\"";
                return Err(Error::new(value.span(), message));
            }
            None => Value::Is(value.into_token_stream()),
        },
        Kind::Jitter if number.is_some_and(|part| !(0.0..1.0).contains(&part)) => {
            return Err(Error::new(value.span(), "a jitter is from 0 to below 1"));
        }
        Kind::Early if number.is_some_and(|part| part > 0.0 && part < 1.0) => Value::Fraction(value),
        Kind::Early if number.is_some() => {
            let message =
                "a part of the time to live is between 0 and 1; `xfetch` goes by the time that values take";
            return Err(Error::new(value.span(), message));
        }
        Kind::Early if is_word(&value, "xfetch") => Value::XFetch,
        Kind::Entries if is_word(&value, "unbounded") => Value::Unbounded,
        Kind::Early | Kind::Jitter | Kind::Entries | Kind::Any => Value::Is(value.into_token_stream()),
    })
}

fn is_word(value: &Expr, word: &str) -> bool {
    matches!(value, Expr::Path(path) if path.path.is_ident(word))
}

/// A literal number, with its sign.
fn as_number(value: &Expr) -> Option<f64> {
    match value {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Float(number) => number.base10_parse().ok(),
            Lit::Int(number) => number.base10_parse().ok(),
            _ => None,
        },
        Expr::Unary(unary) if matches!(unary.op, UnOp::Neg(_)) => {
            as_number(&unary.expr).map(|number| -number)
        }
        _ => None,
    }
}

/// The duration that `text` says.
fn span(text: &LitStr) -> Result<TokenStream> {
    let duration: Duration = humantime::parse_duration(&text.value()).map_err(|error| {
        let message = format!("{error}; a duration is written as \"60s\", \"10m\", \"1h 30m\" or \"100ms\"");
        Error::new(text.span(), message)
    })?;
    let (secs, nanos) = (duration.as_secs(), duration.subsec_nanos());
    Ok(quote!(::std::time::Duration::new(#secs, #nanos)))
}
