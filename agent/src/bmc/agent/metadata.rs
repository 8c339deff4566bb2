//! What a fence agent says of itself (`action=metadata`): the options it knows, and which it must have.
//!
//! An agent ignores an option it does not know, and writes the line with it, value and all, to the system's log. So a
//! misspelt option is no harmless thing, and a secret under a name that the agent does not know is told to everybody who
//! reads that log.

use std::collections::BTreeMap;

use crate::bmc::settings::AgentSettings;

/// Most options of one agent that are read. fence_ipmilan has 60 with the old names.
const PARAMETERS_MAX: usize = 1_000;

/// Most XML nodes: an option has about ten.
const NODES_MAX: u32 = 50_000;

/// One option.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameter {
    required: bool,
    default: Option<String>,
    /// The older name of the same option.
    obsoletes: Option<String>,
    /// What it may be, if it is one of some words.
    choices: Vec<String>,
    kind: Option<String>,
}

/// The options an agent knows, and what it can do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    parameters: BTreeMap<String, Parameter>,
    actions: Vec<String>,
}

impl Metadata {
    /// Reads the document.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Of agents that log to standard output before they print it.
        let begin = text.find("<?xml").or_else(|| text.find("<resource-agent")).unwrap_or(0);
        let options = roxmltree::ParsingOptions { nodes_limit: NODES_MAX, ..roxmltree::ParsingOptions::default() };
        let document = roxmltree::Document::parse_with_options(&text[begin..], options)
            .map_err(|error| format!("its metadata is not XML: {error}"))?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err("its metadata is not that of a fence agent".to_owned());
        }
        let named = |node: &roxmltree::Node<'_, '_>| node.attribute("name").map(str::to_owned);
        let parameters = root.descendants().filter(|node| node.has_tag_name("parameter")).take(PARAMETERS_MAX);
        let parameters = parameters.filter_map(|node| Some((named(&node)?, parameter(node))));
        let actions = root.descendants().filter(|node| node.has_tag_name("action"));
        Ok(Self { parameters: parameters.collect(), actions: actions.filter_map(|node| named(&node)).collect() })
    }

    /// What is wrong with what the agent would be told.
    pub(super) fn faults(&self, settings: &AgentSettings) -> Vec<String> {
        let mut faults = Vec::new();
        for name in settings.options.keys().filter(|name| !self.knows(name)) {
            faults.push(format!("options.{name} is not an option of {}: it would be ignored", settings.name));
        }
        for name in settings.secrets.keys().filter(|name| !self.knows(name)) {
            faults.push(format!(
                "the secret {name} is not an option of {}: the agent would write it to the system's log",
                settings.name
            ));
        }
        for (name, parameter) in &self.parameters {
            if parameter.required && parameter.default.is_none() && !self.is_given(name, settings) {
                faults.push(format!("options.{name} is required by {}", settings.name));
            }
        }
        for (name, value) in &settings.options {
            faults.extend(self.value_fault(name, value));
        }
        faults.extend(self.unsafe_defaults(settings));
        if self.actions.iter().all(|action| action != "off") {
            faults.push(format!("{} has no action \"off\"", settings.name));
        }
        faults
    }

    /// `-` and `_` are one to the library.
    fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(name).or_else(|| self.parameters.get(&name.replace('-', "_")))
    }

    /// What the library itself knows, though it is in no agent's list.
    fn knows(&self, name: &str) -> bool {
        name == "nodename" || self.get(name).is_some()
    }

    /// Whether an option is given, under its name, its old name or its new one. The action is ours.
    fn is_given(&self, name: &str, settings: &AgentSettings) -> bool {
        let given = |name: &str| {
            let same = |key: &String| key.replace('-', "_") == name.replace('-', "_");
            settings.options.keys().any(same) || settings.secrets.keys().any(same)
        };
        let newer = |(_, other): &(&String, &Parameter)| other.obsoletes.as_deref() == Some(name);
        name == "action"
            || given(name)
            || self.get(name).and_then(|parameter| parameter.obsoletes.as_deref()).is_some_and(given)
            || self.parameters.iter().filter(newer).any(|(name, _)| given(name))
    }

    fn value_fault(&self, name: &str, value: &str) -> Option<String> {
        let parameter = self.get(name)?;
        let kind = parameter.kind.as_deref().unwrap_or_default();
        let legal = match kind {
            "boolean" => is_boolean(value),
            "integer" | "second" => value.parse::<f64>().is_ok_and(f64::is_finite),
            "select" => parameter.choices.is_empty() || parameter.choices.iter().any(|choice| choice == value),
            _ => true,
        };
        let words = parameter.choices.join(", ");
        let what = if kind == "select" { format!("one of: {words}") } else { format!("of type {kind}") };
        (!legal).then(|| format!("options.{name} = {value:?} must be {what}"))
    }

    /// Defaults of agents that must not be left in force.
    fn unsafe_defaults(&self, settings: &AgentSettings) -> Vec<String> {
        let is_on = |text: &str| matches!(text.to_ascii_lowercase().as_str(), "1" | "yes" | "on" | "true");
        let mut faults = Vec::new();
        let default = |name: &str| self.get(name).and_then(|parameter| parameter.default.as_deref());
        if default("missing_as_off").is_some_and(is_on) && !settings.options.contains_key("missing_as_off") {
            faults.push(
                "options.missing_as_off must be \"0\": by default this agent calls a machine that it cannot find off"
                    .to_owned(),
            );
        }
        if default("lanplus").is_some_and(|text| !is_on(text)) && !settings.options.contains_key("lanplus") {
            faults.push(
                "options.lanplus must be \"1\": by default this agent speaks IPMI 1.5, which encrypts nothing"
                    .to_owned(),
            );
        }
        faults
    }
}

fn parameter(node: roxmltree::Node<'_, '_>) -> Parameter {
    let content = node.children().find(|child| child.has_tag_name("content"));
    let choices =
        content.into_iter().flat_map(|content| content.children().filter(|child| child.has_tag_name("option")));
    let attribute = |name: &str| content.and_then(|content| content.attribute(name)).map(str::to_owned);
    Parameter {
        required: node.attribute("required") == Some("1"),
        obsoletes: node.attribute("obsoletes").map(str::to_owned),
        default: attribute("default"),
        kind: attribute("type"),
        choices: choices.filter_map(|choice| choice.attribute("value").map(str::to_owned)).collect(),
    }
}

fn is_boolean(value: &str) -> bool {
    matches!(value.to_ascii_lowercase().as_str(), "1" | "yes" | "on" | "true" | "0" | "no" | "off" | "false")
}
