//! Renders the chart as helm does, as far as its templates need it: another engine of Go's templates, and the functions of Helm
//! that they use.

use std::collections::{BTreeMap, HashMap};
use std::fs;

use gtmpl::{Context, Func, FuncError, Template, Value as Gtmpl};
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

/// What the chart is called when it is installed.
pub(super) const RELEASE: &str = "mcp";
pub(super) const NAMESPACE: &str = "tools";

const FUNCTIONS: [(&str, Func); 4] = [
    ("quote", |arguments| {
        let [value] = arguments else { return Err(FuncError::ExactlyXArgs("quote".to_owned(), 1)) };
        Ok(Gtmpl::String(Value::from(value.to_string()).to_string()))
    }),
    ("toJson", |arguments| {
        let [value] = arguments else { return Err(FuncError::ExactlyXArgs("toJson".to_owned(), 1)) };
        Ok(Gtmpl::String(plain(value).to_string()))
    }),
    ("trimPrefix", |arguments| {
        let [prefix, value] = arguments else { return Err(FuncError::ExactlyXArgs("trimPrefix".to_owned(), 2)) };
        let (prefix, value) = (prefix.to_string(), value.to_string());
        Ok(Gtmpl::String(value.strip_prefix(&prefix).unwrap_or(&value).to_owned()))
    }),
    ("join", |arguments| {
        let [separator, Gtmpl::Array(values)] = arguments else { return Err(FuncError::UnableToConvertFromValue) };
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        Ok(Gtmpl::String(values.join(&separator.to_string())))
    }),
];

fn of_the_engine(value: &Value) -> Gtmpl {
    match value {
        Value::Null => Gtmpl::Nil,
        Value::Bool(value) => Gtmpl::Bool(*value),
        Value::Number(number) => Gtmpl::from(number.as_i64().expect("the chart has whole numbers only")),
        Value::String(text) => Gtmpl::String(text.clone()),
        Value::Array(values) => Gtmpl::Array(values.iter().map(of_the_engine).collect()),
        Value::Object(values) => {
            Gtmpl::Map(values.iter().map(|(name, value)| (name.clone(), of_the_engine(value))).collect())
        }
    }
}

fn plain(value: &Gtmpl) -> Value {
    match value {
        Gtmpl::NoValue | Gtmpl::Nil | Gtmpl::Function(_) => Value::Null,
        Gtmpl::Bool(value) => json!(value),
        Gtmpl::Number(number) => json!(number.as_i64()),
        Gtmpl::String(text) => json!(text),
        Gtmpl::Array(values) => values.iter().map(plain).collect(),
        Gtmpl::Object(values) | Gtmpl::Map(values) => {
            // In the order of their names, as helm has them.
            let sorted: BTreeMap<_, _> = values.iter().collect();
            Value::Object(sorted.into_iter().map(|(name, value)| (name.clone(), plain(value))).collect())
        }
    }
}

/// As helm merges values: objects name by name, everything else as a whole.
fn merge(base: &mut Value, changes: Value) {
    match (base, changes) {
        (Value::Object(base), Value::Object(changes)) => {
            for (name, change) in changes {
                merge(base.entry(name).or_insert(Value::Null), change);
            }
        }
        (base, change) => *base = change,
    }
}

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(super::folder().join("helm/entra-mcp").join(name)).unwrap();
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What the chart makes of a file of values, changed.
pub(super) struct Rendered {
    /// The objects of Kubernetes by their kind. There is one of each.
    pub(super) objects: HashMap<String, Value>,
    /// What helm tells the person that installs it.
    pub(super) notes: String,
}

impl Rendered {
    pub(super) fn of(values: &str, changes: Value) -> Self {
        let mut all = yaml("values.yaml");
        merge(&mut all, yaml(values));
        merge(&mut all, changes);
        let chart = yaml("Chart.yaml");
        let about = json!({ "Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"] });
        let release = json!({ "Name": RELEASE, "Namespace": NAMESPACE });
        let context = of_the_engine(&json!({ "Values": all, "Chart": about, "Release": release }));
        let (mut objects, mut notes) = (HashMap::new(), String::new());
        for entry in fs::read_dir(super::folder().join("helm/entra-mcp/templates")).unwrap() {
            let path = entry.unwrap().path();
            let mut template = Template::default();
            template.add_funcs(&FUNCTIONS);
            template.parse(fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let text = template.render(&Context::from(context.clone()));
            let text = text.unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert!(!text.contains("<no value>"), "{path:?}: {text}");
            if path.extension().is_some_and(|extension| extension == "txt") {
                notes = text;
                continue;
            }
            for document in serde_norway::Deserializer::from_str(&text) {
                let object = Value::deserialize(document).unwrap_or_else(|error| panic!("{path:?}: {error}\n{text}"));
                // A template that makes nothing is an empty document.
                let Some(kind) = object["kind"].as_str().map(str::to_owned) else { continue };
                assert!(objects.insert(kind, object).is_none(), "{path:?}: one of each kind");
            }
        }
        Self { objects, notes }
    }

    pub(super) fn object(&self, kind: &str) -> &Value {
        self.objects.get(kind).unwrap_or_else(|| panic!("there is no {kind}"))
    }

    /// What is said of the pods.
    pub(super) fn pod(&self) -> &Value {
        &self.object("Deployment")["spec"]["template"]
    }

    /// The one container.
    pub(super) fn container(&self) -> &Value {
        let containers = self.pod()["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// Its variables, each once.
    pub(super) fn variables(&self) -> Map<String, Value> {
        let mut variables = Map::new();
        for variable in self.container()["env"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap().to_owned();
            assert!(variables.insert(name, variable.clone()).is_none(), "{variable} is there twice");
        }
        variables
    }
}
