//! Reading templates.

use serde_json::Value;

/// Groups and blocks are not nested deeper than this.
const DEEPEST: usize = 32;

/// A pipeline: commands, each of terms.
pub(super) type Pipeline = Vec<Vec<Term>>;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    /// Printed as it is.
    Text(String),
    /// `{{pipeline}}`.
    Print(Pipeline),
    /// `{{if}} {{else}} {{end}}`.
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    /// `{{$name := pipeline}}`.
    Set { name: String, value: Pipeline },
    /// `{{range}} {{else}} {{end}}`; `names` are those of `$key, $value :=` or `$value :=`.
    Range { names: Vec<String>, over: Pipeline, each: Vec<Node>, otherwise: Vec<Node> },
}

/// A word of a command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Term {
    /// `.A.B`, below the current value.
    Field(Vec<String>),
    /// `$.A.B`, below the whole value.
    Root(Vec<String>),
    /// `$name.A.B`, below a variable.
    Variable(String, Vec<String>),
    /// A number, text or truth value.
    Literal(Value),
    /// The name of a function.
    Function(String),
    /// A pipeline in parentheses.
    Group(Pipeline),
}

/// What stands between the delimiters, or outside of them.
enum Piece<'a> {
    Text(&'a str),
    Action(&'a str),
}

/// Reads a whole template.
pub(super) fn nodes(text: &str) -> Result<Vec<Node>, String> {
    let pieces = split(text)?;
    let mut pieces = pieces.into_iter();
    match block(&mut pieces, 0)? {
        (nodes, None) => Ok(nodes),
        (_, Some(word)) => Err(format!("{word} without a beginning")),
    }
}

/// Cuts text and actions apart; `{{-` and `-}}` take the white space beside them away.
fn split(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, behind) = after.split_once("}}").ok_or("an action without an end")?;
        let (trims_before, action) = match action.strip_prefix("- ") {
            Some(action) => (true, action),
            None => (false, action),
        };
        let (trims_behind, action) = match action.strip_suffix(" -") {
            Some(action) => (true, action),
            None => (false, action),
        };
        pieces.push(Piece::Text(if trims_before { before.trim_end() } else { before }));
        pieces.push(Piece::Action(action.trim()));
        rest = if trims_behind { behind.trim_start() } else { behind };
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// Reads nodes until the template or the block ends; says by which word.
fn block<'a>(
    pieces: &mut impl Iterator<Item = Piece<'a>>,
    depth: usize,
) -> Result<(Vec<Node>, Option<&'a str>), String> {
    if depth > DEEPEST {
        return Err("too deeply nested".to_owned());
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let action = match piece {
            Piece::Text("") => continue,
            Piece::Text(text) => {
                nodes.push(Node::Text(unescape(text)));
                continue;
            }
            Piece::Action(action) => action,
        };
        let (word, rest) = action.split_once(' ').unwrap_or((action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(word))),
            "if" | "range" => {
                let (names, rest) = assigned(rest)?;
                let pipeline = pipeline(rest)?;
                let (first, by) = block(pieces, depth + 1)?;
                let (second, by) = match by {
                    Some("else") => block(pieces, depth + 1)?,
                    by => (Vec::new(), by),
                };
                if by != Some("end") {
                    return Err(format!("{word} without an end"));
                }
                nodes.push(match (word, &names[..]) {
                    ("if", []) => Node::If { condition: pipeline, then: first, otherwise: second },
                    ("if", _) => return Err("if takes no variables".to_owned()),
                    _ => Node::Range { names, over: pipeline, each: first, otherwise: second },
                });
            }
            _ => nodes.push(match assigned(action)? {
                (mut names, value) if names.len() == 1 => {
                    Node::Set { name: names.remove(0), value: pipeline(value)? }
                }
                (names, _) if !names.is_empty() => {
                    return Err("only range sets two variables".to_owned());
                }
                _ => Node::Print(pipeline(action)?),
            }),
        }
    }
    Ok((nodes, None))
}

/// The names of `$a, $b := rest`, and the rest; no names if nothing is assigned.
fn assigned(action: &str) -> Result<(Vec<String>, &str), String> {
    // An assignment stands in front; `:=` in a quoted text is none.
    let Some((names, rest)) = action.split_once(":=").filter(|_| action.starts_with('$')) else {
        return Ok((Vec::new(), action));
    };
    let name = |text: &str| match text.trim().strip_prefix('$') {
        Some(name) if name.chars().all(|it| it.is_alphanumeric() || it == '_') => {
            Ok(name.to_owned())
        }
        _ => Err(format!("{:?} is not a variable", text.trim())),
    };
    let names = names.split(',').map(name).collect::<Result<Vec<_>, _>>()?;
    match names.len() {
        1 | 2 => Ok((names, rest.trim())),
        _ => Err("too many variables".to_owned()),
    }
}

/// `\t` and `\n` in the shell's arguments, as docker takes them.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

fn pipeline(text: &str) -> Result<Pipeline, String> {
    let mut letters = text.chars().peekable();
    let pipeline = commands(&mut letters, 0)?;
    match letters.next() {
        None => Ok(pipeline),
        Some(letter) => Err(format!("{letter:?} is not expected")),
    }
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn commands(letters: &mut Letters, depth: usize) -> Result<Pipeline, String> {
    if depth > DEEPEST {
        return Err("too deeply nested".to_owned());
    }
    let mut commands = vec![Vec::new()];
    while let Some(letter) = letters.peek().copied() {
        let current = commands.last_mut().ok_or("no command")?;
        match letter {
            ' ' | '\t' | '\n' => drop(letters.next()),
            ')' => break,
            '|' => {
                letters.next();
                commands.push(Vec::new());
            }
            '(' => {
                letters.next();
                current.push(Term::Group(self::commands(letters, depth + 1)?));
                letters.next_if_eq(&')').ok_or("a parenthesis without an end")?;
            }
            '"' | '`' => current.push(Term::Literal(text(letters)?.into())),
            _ => current.push(word(letters)?),
        }
    }
    Ok(commands)
}

/// A quoted text.
fn text(letters: &mut Letters) -> Result<String, String> {
    let quote = letters.next();
    let mut text = String::new();
    loop {
        match letters.next() {
            None => return Err("a text without an end".to_owned()),
            letter if letter == quote => return Ok(text),
            Some('\\') if quote == Some('"') => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(letter) => text.push(letter),
                None => return Err("a text without an end".to_owned()),
            },
            Some(letter) => text.push(letter),
        }
    }
}

/// A field, number, truth value or function.
fn word(letters: &mut Letters) -> Result<Term, String> {
    let mut word = String::new();
    while let Some(letter) = letters.next_if(|it| !" \t\n|()\"`".contains(*it)) {
        word.push(letter);
    }
    let path =
        |text: &str| text.split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    if let Some(fields) = word.strip_prefix('.') {
        return Ok(Term::Field(path(fields)));
    }
    if let Some(variable) = word.strip_prefix('$') {
        let (name, fields) = variable.split_once('.').unwrap_or((variable, ""));
        return Ok(match name {
            "" => Term::Root(path(fields)),
            name => Term::Variable(name.to_owned(), path(fields)),
        });
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    match word.as_str() {
        "" => Err("a word is missing".to_owned()),
        "true" => Ok(Term::Literal(true.into())),
        "false" => Ok(Term::Literal(false.into())),
        _ => Ok(Term::Function(word)),
    }
}
