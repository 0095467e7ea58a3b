//! Keys: no two calls share one, those of the Python packages are theirs to the letter, manglers mangle.
#![cfg(feature = "region")]

#[path = "model/keys.rs"]
mod model;

use dogpile::ErrorKind;
use dogpile::region::{
    Arg, CachetoryKeys, Call, DefaultKeys, DogpileKeys, KeyGenerator, Mangler, cachetory_hashed_key,
    cachetory_key, dogpile_key, dogpile_kwarg_key, dogpile_multi_keys, key_of, length_conditional_mangler,
    sha1_mangle_key,
};
use model::{Called, Value};
use proptest::prelude::*;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;

fn key(args: &(impl Serialize + ?Sized)) -> String {
    key_of("f", None, args).unwrap()
}

#[test]
fn what_dogpile_and_cachetory_confuse_has_keys_of_its_own() {
    let keys = [
        key(&("a b",)),
        key(&("a", "b")),
        key(&(1,)),
        key(&("1",)),
        key(&("a:", "b")),
        key(&("a", ":b")),
        key(&(Some(1),)),
        key(&(None::<i32>,)),
        key(&("None",)),
        key(&(Some(None::<i32>),)),
        key(&(1.0,)),
        key(&(-0.0,)),
        key(&(0.0,)),
        key(&('1',)),
        key(&((1,),)),
        key(&([1].as_slice(),)),
        key(&((),)),
        key(&()),
        key(&(1, ())),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{keys:?}");
}

#[test]
fn arguments_read_as_one_would_write_them() {
    #[derive(Serialize)]
    struct Unit;
    #[derive(Serialize)]
    struct Id(u64);
    #[derive(Serialize)]
    struct Pair(u8, &'static str);
    #[derive(Serialize)]
    struct Point {
        x: f64,
        #[serde(rename = "the y")]
        y: f64,
    }
    #[derive(Serialize)]
    enum Shape {
        Empty,
        Round(f32),
        Flat(u8, u8),
        Cube { a: u8 },
    }
    let cases = [
        (key(&(1_u8, -1_i64, u128::MAX)), format!("f(1,-1,{})", u128::MAX)),
        (key(&(1.0, 0.1, -0.0, 1e21)), "f(1.0,0.1,-0.0,1e21)".into()),
        (key(&(f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY)), "f(NaN,NaN,inf,-inf)".into()),
        (key(&(true, 'a', '\'', "it's \"a\"\n\0")), r#"f(true,'a','\'',"it's \"a\"\n\u{0}")"#.into()),
        (key(&(Some(Some(1)), Some(None::<u8>))), "f(Some(Some(1)),Some(None))".into()),
        (key(&((), (1,), [0; 0], vec![0; 0])), "f((),(1,),(,),[])".into()),
        (key(&(Unit, Id(7), Pair(1, "b"))), "f(Unit;,Id(7),Pair(1,\"b\"))".into()),
        (key(&(Point { x: 1.0, y: 2.0 },)), "f(Point{x:1.0,`the y`:2.0})".into()),
        (
            key(&(Shape::Empty, Shape::Round(0.5), Shape::Flat(1, 2), Shape::Cube { a: 1 })),
            "f(Shape::Empty,Shape::Round(0.5),Shape::Flat(1,2),Shape::Cube{a:1})".into(),
        ),
        (key(&(BTreeMap::from([(2, "b"), (10, "a")]),)), r#"f({10:"a",2:"b"})"#.into()),
        (key(&Id(7)), "f(Id(7))".into()),
        (key("text"), "f(\"text\")".into()),
        (key(&Box::new((&1, Box::<str>::from("a")))), "f(1,\"a\")".into()),
    ];
    for (key, expected) in cases {
        assert_eq!(key, expected);
    }
}

#[test]
fn the_order_of_a_map_does_not_matter() {
    let keys: HashSet<String> = (0..20)
        .map(|_| {
            // Each has a seed of its own.
            let inner: HashMap<u32, u32> = (0..50).map(|n| (n, n)).collect();
            key(&(HashMap::from([("a", inner.clone()), ("b", inner)]), 5))
        })
        .collect();
    assert_eq!(keys.len(), 1);
}

#[test]
fn names_and_namespaces_are_not_confused() {
    let keys = [
        key_of("f", None, &()).unwrap(),
        key_of("f", Some(""), &()).unwrap(),
        key_of("f", Some("n"), &()).unwrap(),
        key_of("f|n", None, &()).unwrap(),
        key_of("f|\"n\"", None, &()).unwrap(),
        key_of("f|\"n", Some("\""), &()).unwrap(),
        key_of("f(1)", None, &()).unwrap(),
        key_of("f", None, &(1,)).unwrap(),
        key_of("f", Some("\"(1)"), &()).unwrap(),
        key_of("f\\", Some("n"), &()).unwrap(),
        key_of("f\\|n", None, &()).unwrap(),
        key_of("", None, &()).unwrap(),
    ];
    assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len(), "{keys:?}");
}

#[test]
fn what_is_nested_too_deep_is_refused() {
    fn nested(depth: u32) -> serde_json::Value {
        (0..depth).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner]))
    }
    assert_eq!(key(&(nested(127),)).len(), "f(())".len() + 2 * 127);
    let error = key_of("f", None, &(nested(128),)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert_eq!(
        error.to_string(),
        "key of `f`: the store can't have such a key: an argument can't be part of a key: skip it, or use a key generator of your own"
    );
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "nested more than 128 deep");
}

#[test]
fn an_argument_that_refuses_is_an_error() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }
    assert_eq!(key_of("f", None, &(1, Refuses)).unwrap_err().kind(), ErrorKind::Key);
    let args = [Arg::new("a", &Refuses)];
    assert_eq!(DefaultKeys.key(&Call::new("m", "f", &args)).unwrap_err().kind(), ErrorKind::Key);
    assert_eq!(DogpileKeys::new().key(&Call::new("m", "f", &args)).unwrap_err().kind(), ErrorKind::Key);
}

#[test]
fn the_default_generator_is_key_of() {
    let args = [Arg::new("a", &1), Arg::new("b", &Some("x y"))];
    let call = Call::new("shop::users", "find", &args);
    assert_eq!(
        DefaultKeys.key(&call).unwrap(),
        key_of("shop::users::find", None, &(1, Some("x y"))).unwrap()
    );
    let call = call.namespace("n");
    assert_eq!(
        DefaultKeys.key(&call).unwrap(),
        key_of("shop::users::find", Some("n"), &(1, Some("x y"))).unwrap()
    );
    let keys = DefaultKeys.keys(&call).unwrap();
    assert_eq!(keys, [r#"shop::users::find|"n"(1)"#, r#"shop::users::find|"n"(Some("x y"))"#]);
    assert_eq!(DefaultKeys.key(&Call::new("m", "f", &[])).unwrap(), "m::f()");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Whatever can be read back is the key of that one call.
    #[test]
    fn a_key_reads_back_as_the_call_it_is_of(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let called = Called::decode(&bytes);
        let key = key_of(&called.function, called.namespace.as_deref(), &Value::Tuple(called.args.clone())).unwrap();
        prop_assert_eq!(Called::parse(&key), called.sorted(), "{}", key);
    }

    /// Two calls that differ in little.
    #[test]
    fn two_calls_have_two_keys(
        bytes in prop::collection::vec(any::<u8>(), 1..40),
        at in any::<prop::sample::Index>(),
        other in any::<u8>(),
    ) {
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = other;
        let [a, b] = [bytes, changed].map(|bytes| Called::decode(&bytes).sorted());
        let [one, two] = [&a, &b].map(|called| {
            key_of(&called.function, called.namespace.as_deref(), &Value::Tuple(called.args.clone())).unwrap()
        });
        prop_assert_eq!(a == b, one == two, "{} {}", one, two);
    }
}

/// What the Python packages gave, as `scripts/keys_golden.py` has recorded it.
fn golden() -> serde_json::Value {
    serde_json::from_str(include_str!("golden/keys.json")).unwrap()
}

/// JSON's null is Python's None, which serde's is not.
#[derive(Serialize)]
#[serde(untagged)]
enum Given<'a> {
    Null(Option<()>),
    Other(&'a serde_json::Value),
}

fn given(values: &[serde_json::Value]) -> Vec<Given<'_>> {
    values.iter().map(|value| if value.is_null() { Given::Null(None) } else { Given::Other(value) }).collect()
}

fn display(texts: &[String]) -> Vec<&dyn Display> {
    texts.iter().map(|text| text as &dyn Display).collect()
}

#[test]
fn python_has_the_same_keys() {
    let golden = golden();
    assert_eq!((&golden["dogpile.cache"], &golden["cachetory"]), (&"1.5.0".into(), &"3.5.1".into()));
    let mut checked = BTreeMap::<&str, u32>::new();
    for case in golden["calls"].as_array().unwrap() {
        let text = |name: &str| case[name].as_str().unwrap();
        let (module, function, namespace) = (text("module"), text("function"), case["namespace"].as_str());
        let args = given(case["args"].as_array().map_or(&[], Vec::as_slice));
        let args: Vec<Arg<'_>> = args.iter().map(|arg| Arg::new("", arg)).collect();
        let positional: Vec<String> = args.iter().map(|arg| arg.python_str().unwrap()).collect();
        let pairs = case["named"].as_array().map_or(&[][..], Vec::as_slice);
        let values: Vec<serde_json::Value> = pairs.iter().map(|pair| pair[1].clone()).collect();
        let values = given(&values);
        let named: Vec<Arg<'_>> = pairs
            .iter()
            .zip(&values)
            .map(|(pair, value)| Arg::new(pair[0].as_str().unwrap(), value))
            .collect();
        let by_name: Vec<String> = named.iter().map(|arg| arg.python_str().unwrap()).collect();
        let keywords: Vec<(&str, &dyn Display)> =
            named.iter().zip(&by_name).map(|(arg, text)| (arg.name(), text as &dyn Display)).collect();
        let positional = display(&positional);
        let call = |args| match namespace {
            Some(namespace) => Call::new(module, function, args).namespace(namespace),
            None => Call::new(module, function, args),
        };
        let form = text("form");
        match form {
            "dogpile" => {
                assert_eq!(dogpile_key(module, function, namespace, &positional), text("key"));
                assert_eq!(DogpileKeys::new().key(&call(&args)).unwrap(), text("key"));
            }
            "dogpile multi" => {
                let keys: Vec<String> = serde_json::from_value(case["keys"].clone()).unwrap();
                assert_eq!(dogpile_multi_keys(module, function, namespace, &positional), keys);
                assert_eq!(DogpileKeys::new().keys(&call(&args)).unwrap(), keys);
            }
            "dogpile by name" => {
                assert_eq!(dogpile_kwarg_key(module, function, namespace, &keywords), text("key"));
                assert_eq!(DogpileKeys::by_name().key(&call(&named)).unwrap(), text("key"));
            }
            "cachetory" => {
                assert_eq!(cachetory_key(module, function, &positional, &keywords), text("key"));
                assert_eq!(cachetory_hashed_key(module, function, &positional, &keywords), text("hashed"));
                if keywords.is_empty() {
                    assert_eq!(CachetoryKeys.key(&call(&args)).unwrap(), text("key"));
                }
            }
            other => panic!("{other} is not compared"),
        }
        *checked.entry(form).or_default() += 1;
    }
    assert_eq!(checked.len(), 4, "{checked:?}");
    assert!(checked.values().all(|count| *count >= 60), "{checked:?}");
}

#[test]
fn python_writes_the_same_floats() {
    let golden = golden();
    let floats = golden["floats"].as_array().unwrap();
    assert!(floats.len() > 500);
    for case in floats {
        let value = f64::from_bits(case[0].as_str().unwrap().parse().unwrap());
        assert_eq!(Arg::new("a", &value).python_str().unwrap(), case[1].as_str().unwrap());
    }
}

#[test]
fn python_mangles_alike() {
    let golden = golden();
    let long = Mangler::long_keys(8, Mangler::sha1());
    let function = length_conditional_mangler(8, sha1_mangle_key);
    for case in golden["mangled"].as_array().unwrap() {
        let [key, sha1, from_8] = ["key", "sha1", "from 8"].map(|name| case[name].as_str().unwrap());
        assert_eq!(sha1_mangle_key(key), sha1);
        assert_eq!(Mangler::sha1().mangle(key), sha1);
        assert_eq!(long.mangle(key), from_8);
        assert_eq!(function(key), from_8);
        assert_eq!(Mangler::none().mangle(key), key);
    }
}

#[test]
fn what_python_has_another_text_for_is_refused() {
    let refused = [
        Arg::new("a", &[1, 2]).python_str(),
        Arg::new("a", &()).python_str(),
        Arg::new("a", &vec!["a"]).python_str(),
        Arg::new("a", &HashMap::from([(1, 2)])).python_str(),
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Key);
    }
}

#[test]
fn manglers_borrow_what_they_leave_alone() {
    use std::borrow::Cow;
    assert!(matches!(Mangler::none().mangle("key"), Cow::Borrowed("key")));
    assert!(matches!(Mangler::long_keys(4, Mangler::sha1()).mangle("key"), Cow::Borrowed("key")));
    assert_eq!(format!("{:?}", Mangler::long_keys(4, Mangler::sha1())), "long_keys(4, sha1)");
    assert_eq!(format!("{:?}", Mangler::from_fn(str::to_owned)), "own");
}

#[test]
fn arguments_are_not_shown() {
    let args = [Arg::new("password", &"hunter2")];
    let shown = format!("{:?}", Call::new("m", "f", &args));
    assert!(shown.contains("password") && !shown.contains("hunter2"), "{shown}");
}
