//! Go templates over JSON, as far as people use them with `--format`.
//!
//! ```text
//!   text {{ pipeline }} text
//!   pipeline  = command { "|" command }          the value before becomes the last argument
//!   command   = term { term } | "if" | "else" | "end" | "range" ...
//!   term      = .A.B | $ | $name.A.B | "text" | number | function | ( pipeline )
//!   functions   json index len join split upper lower title print println printf eq ne not and or
//!               truncate
//! ```
//!
//! `{{range}}` walks over lists and maps, with `$key, $value :=` too; `{{if}}` takes an `{{else}}`.

mod parse;

use serde_json::Value;

use crate::failure::Failure;
use parse::{Node, Term};

/// A template that can be applied.
#[derive(Debug)]
pub(crate) struct Template(Vec<Node>);

impl Template {
    /// Reads a template; the names of docker's fixed formats stand for templates of their own.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let text = if text == "json" { "{{json .}}" } else { text };
        match parse::nodes(text) {
            Ok(nodes) => Ok(Self(nodes)),
            Err(reason) => {
                Err(Failure::new(format!("cannot read the template {text:?}: {reason}")))
            }
        }
    }

    /// What it makes of `value`.
    pub(crate) fn apply(&self, value: &Value) -> Result<String, Failure> {
        let mut text = String::new();
        let mut scope = Scope { root: value, variables: Vec::new() };
        match nodes(&self.0, &mut scope, value, &mut text) {
            Ok(()) => Ok(text),
            Err(reason) => Err(Failure::new(format!("cannot apply the template: {reason}"))),
        }
    }
}

/// What names stand for.
struct Scope<'a> {
    /// The whole value: `$`.
    root: &'a Value,
    /// The innermost last.
    variables: Vec<(String, Value)>,
}

impl Scope<'_> {
    fn variable(&self, name: &str) -> Result<&Value, String> {
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or_else(|| format!("there is no variable ${name}"))
    }
}

fn nodes(
    list: &[Node],
    scope: &mut Scope<'_>,
    dot: &Value,
    text: &mut String,
) -> Result<(), String> {
    for node in list {
        match node {
            Node::Text(piece) => text.push_str(piece),
            Node::Print(pipeline) => text.push_str(&printed(&evaluate(pipeline, scope, dot)?)),
            Node::If { condition, then, otherwise } => {
                let chosen =
                    if truth(&evaluate(condition, scope, dot)?) { then } else { otherwise };
                nodes(chosen, scope, dot, text)?;
            }
            Node::Set { name, value } => {
                let value = evaluate(value, scope, dot)?;
                scope.variables.push((name.clone(), value));
            }
            Node::Range { names, over, each, otherwise } => {
                let items = items(evaluate(over, scope, dot)?);
                if items.is_empty() {
                    nodes(otherwise, scope, dot, text)?;
                }
                for (key, item) in items {
                    let known = scope.variables.len();
                    match &names[..] {
                        [value] => scope.variables.push((value.clone(), item.clone())),
                        [index, value, ..] => {
                            scope.variables.push((index.clone(), key));
                            scope.variables.push((value.clone(), item.clone()));
                        }
                        [] => {}
                    }
                    nodes(each, scope, &item, text)?;
                    scope.variables.truncate(known);
                }
            }
        }
    }
    Ok(())
}

/// What a range walks over: keys and values.
fn items(over: Value) -> Vec<(Value, Value)> {
    match over {
        Value::Array(items) => {
            items.into_iter().enumerate().map(|(at, it)| (at.into(), it)).collect()
        }
        Value::Object(items) => items.into_iter().map(|(key, it)| (key.into(), it)).collect(),
        _ => Vec::new(),
    }
}

/// The value of a pipeline.
fn evaluate(pipeline: &[Vec<Term>], scope: &Scope<'_>, dot: &Value) -> Result<Value, String> {
    let mut piped: Option<Value> = None;
    for command in pipeline {
        let mut terms = command.iter();
        let first = terms.next().ok_or("an empty command")?;
        let mut arguments = terms.map(|it| term(it, scope, dot)).collect::<Result<Vec<_>, _>>()?;
        let is_function = matches!(first, Term::Function(_));
        if !is_function && (piped.is_some() || !arguments.is_empty()) {
            return Err("only a function takes arguments".to_owned());
        }
        arguments.extend(piped);
        piped = Some(match first {
            Term::Function(name) => call(name, &arguments)?,
            other => term(other, scope, dot)?,
        });
    }
    piped.ok_or_else(|| "an empty action".to_owned())
}

fn term(term: &Term, scope: &Scope<'_>, dot: &Value) -> Result<Value, String> {
    match term {
        Term::Field(path) => field(dot, path),
        Term::Root(path) => field(scope.root, path),
        Term::Variable(name, path) => field(scope.variable(name)?, path),
        Term::Literal(value) => Ok(value.clone()),
        Term::Group(pipeline) => evaluate(pipeline, scope, dot),
        Term::Function(name) => call(name, &[]),
    }
}

/// The value below `value` at `path`. An unknown field of an object is an error, as it is in docker;
/// what is below null is null.
fn field(value: &Value, path: &[String]) -> Result<Value, String> {
    let mut at = value;
    for name in path {
        at = match at {
            Value::Object(fields) => {
                fields.get(name).ok_or_else(|| format!("there is no field {name:?}"))?
            }
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("there is no field {name:?} in {at}")),
        };
    }
    Ok(at.clone())
}

/// Calls a function of docker's templates.
fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |value: &Value| Value::String(printed(value));
    match (name, arguments) {
        ("json", [value]) => Ok(Value::String(value.to_string())),
        ("len", [Value::Array(items)]) => Ok(items.len().into()),
        ("len", [Value::Object(items)]) => Ok(items.len().into()),
        ("len", [Value::String(it)]) => Ok(it.len().into()),
        ("index", [value, keys @ ..]) => {
            keys.iter().try_fold(value.clone(), |value, key| Ok(index(&value, key)))
        }
        ("upper", [value]) => Ok(printed(value).to_uppercase().into()),
        ("lower", [value]) => Ok(printed(value).to_lowercase().into()),
        ("title", [value]) => Ok(title(&printed(value)).into()),
        ("print", values) => Ok(values.iter().map(printed).collect::<String>().into()),
        ("println", values) => {
            let words: Vec<_> = values.iter().map(printed).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        ("printf", [format, values @ ..]) => Ok(formatted(&printed(format), values)?.into()),
        ("join", [Value::Array(items), separator]) => {
            let words: Vec<_> = items.iter().map(printed).collect();
            Ok(words.join(&printed(separator)).into())
        }
        ("split", [value, separator]) => {
            let (value, separator) = (printed(value), printed(separator));
            Ok(value.split(&*separator).map(Value::from).collect())
        }
        ("truncate", [value, length]) => {
            let length = length.as_u64().unwrap_or(0) as usize;
            Ok(printed(value).chars().take(length).collect::<String>().into())
        }
        ("eq", [first, rest @ ..]) => {
            Ok(rest.iter().any(|other| text(first) == text(other)).into())
        }
        ("ne", [first, second]) => Ok((text(first) != text(second)).into()),
        ("not", [value]) => Ok((!truth(value)).into()),
        ("and" | "or", [first, rest @ ..]) => {
            let stop = name == "or";
            let found = std::iter::once(first).chain(rest).find(|value| truth(value) == stop);
            Ok(found.or(rest.last()).unwrap_or(first).clone())
        }
        _ => Err(format!("the function {name} does not take these {} arguments", arguments.len())),
    }
}

/// Go's `%s`, `%v`, `%d` and `%q`, of which widths are not read.
fn formatted(format: &str, values: &[Value]) -> Result<String, String> {
    let mut values = values.iter();
    let mut text = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        let verb = match letter {
            '%' => letters.next().ok_or("printf: a % at the end")?,
            letter => {
                text.push(letter);
                continue;
            }
        };
        match verb {
            '%' => text.push('%'),
            's' | 'v' | 'd' | 'q' => {
                let value = printed(values.next().ok_or("printf: too few values")?);
                match verb {
                    'q' => text.push_str(&Value::String(value).to_string()),
                    _ => text.push_str(&value),
                }
            }
            other => return Err(format!("printf: %{other} is not known")),
        }
    }
    match values.next() {
        None => Ok(text),
        Some(_) => Err("printf: too many values".to_owned()),
    }
}

/// An element of a list or map; null if there is none.
fn index(value: &Value, key: &Value) -> Value {
    let found = match value {
        Value::Array(items) => key.as_u64().and_then(|it| items.get(it as usize)),
        Value::Object(items) => items.get(&printed(key)),
        _ => None,
    };
    found.cloned().unwrap_or(Value::Null)
}

fn title(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|it| it.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Whether Go takes a value for true: not empty, not zero, not nil.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

/// A value as Go prints it: `[a b]`, `map[k:v]`, `<no value>`.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(value) => value.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" "))
        }
        Value::Object(items) => {
            let pair = |(key, value): (&String, &Value)| format!("{key}:{}", printed(value));
            format!("map[{}]", items.iter().map(pair).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn apply(text: &str) -> Result<String, String> {
        let value = json!({
            "Name": "/web", "State": {"Pid": 7, "Running": true}, "Mounts": [],
            "Config": {"Cmd": ["a", "b"], "Labels": {"x.y": "z"}},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}},
        });
        let template = Template::parse(text).map_err(|it| it.message)?;
        template.apply(&value).map_err(|it| it.message)
    }

    #[test]
    fn what_people_write() {
        let cases = [
            ("{{.Name}}", "/web"),
            ("{{ .State.Pid }} {{.State.Running}}", "7 true"),
            ("{{json .Config.Cmd}}", r#"["a","b"]"#),
            ("{{.Config.Cmd}}", "[a b]"),
            ("{{range .Networks}}{{.IPAddress}}{{end}}", "172.17.0.2"),
            ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
            (r#"{{index .Config.Labels "x.y"}}"#, "z"),
            (r#"{{join .Config.Cmd ","}}"#, "a,b"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{if eq .State.Pid 7}}seven{{end}}", "seven"),
            ("{{.Name | upper | json}}", r#""/WEB""#),
            ("{{len .Config.Cmd}}", "2"),
            ("{{range .Config.Cmd}}{{$.Name}}{{.}} {{end}}", "/weba /webb "),
            ("{{(index .Config.Cmd 1)}}", "b"),
            ("a {{- .Name -}} b", "a/webb"),
            ("{{range $k, $v := .Networks}}{{$k}}={{$v.IPAddress}}{{end}}", "bridge=172.17.0.2"),
            ("{{range $i, $it := .Config.Cmd}}{{$i}}{{$it}}{{.}}{{end}}", "0aa1bb"),
            ("{{range $it := .Config.Cmd}}{{$it}}{{end}}", "ab"),
            ("{{$pid := .State.Pid}}{{$pid}}", "7"),
            (r#"{{printf "%s is %d%%" .Name .State.Pid}}"#, "/web is 7%"),
            (r#"{{.Name | printf "%q"}}"#, r#""/web""#),
        ];
        for (text, expected) in cases {
            assert_eq!(apply(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn faults_are_told() {
        for text in [
            "{{.Nope}}",
            "{{",
            "{{end}}",
            "{{range .Name}}",
            "{{nope .}}",
            "{{}}",
            "{{\"a}}",
            "{{$x}}",
            "{{range $x := .Config.Cmd}}{{end}}{{$x}}",
            "{{$x, $y := .Name}}",
            "{{printf \"%s\"}}",
        ] {
            assert!(apply(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(\\{\\{|\\}\\}|[a-z.|$() \"-]){0,40}") {
            let _ = apply(&text);
        }
    }
}
