//! One declaration a setting, from which everything else about it follows.
//!
//! `settings!` takes a field with its help, type, default and check. The name of the field gives the flag
//! (`--sign-in-timeout`), the variable (`ENTRA_MCP_SIGN_IN_TIMEOUT`) and the key in the configuration file
//! (`sign-in-timeout`). From the declaration come the clap arguments, the readers of variables and file, the order of
//! precedence, the checked values and the reference page ([`super::reference`]).
//!
//! Why this is not a library: figment, twelf and confique read the variables of the process by themselves, where this
//! program reads an [`Environment`] that tests supply; they take one variable a setting, where some settings have an
//! `AZURE_…` variable too; and none of them puts default and variable into the help text of clap. What they would
//! replace is the merging alone.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::parser::MatchesError;
use clap::{Arg, ArgAction, ArgMatches, ValueEnum, value_parser};

use super::{ConfigError, Environment, within};

/// A setting as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name, such as `sign-in-timeout`: the key in the configuration file, and the flag after `--`. For a setting
    /// that is a variable only, the variable.
    pub name: String,
    /// Whether there is a flag.
    pub has_flag: bool,
    /// Whether there is a key in the configuration file.
    pub has_key: bool,
    /// The environment variable.
    pub variable: Option<String>,
    /// A variable of other tools that counts where there is no other value in the environment.
    pub also: Option<&'static str>,
    /// What stands for the value in help texts, such as `SECONDS`; a switch needs none.
    pub value_name: Option<String>,
    /// What applies if nothing is set, as text.
    pub default: Option<String>,
    /// Which values are accepted, as far as the type does not say it.
    pub accepted: Option<String>,
    /// What it does.
    pub help: String,
    /// The settings that it belongs to, such as `Audit and metrics`.
    pub group: &'static str,
}

impl Setting {
    fn new(field: &str, help: &[&str], group: &'static str) -> Self {
        Self {
            name: field.replace('_', "-"),
            has_flag: true,
            has_key: true,
            variable: Some(format!("ENTRA_MCP_{}", field.to_ascii_uppercase())),
            also: None,
            value_name: Some(field.to_ascii_uppercase()),
            default: None,
            accepted: None,
            help: help.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "),
            group,
        }
    }

    /// A table, which the configuration file alone can hold.
    pub(super) fn table(field: &str, help: &[&str], group: &'static str) -> Self {
        Self { has_flag: false, variable: None, ..Self::new(field, help, group) }
    }

    /// What a variable alone can set, such as a secret.
    pub(super) fn variable(variable: &str, help: &[&str], group: &'static str) -> Self {
        let name = variable.to_owned();
        let variable = Some(name.clone());
        Self { name, has_flag: false, has_key: false, variable, ..Self::new("", help, group) }
    }

    /// The text of `--help`.
    pub(super) fn help_text(&self) -> String {
        let mut text = self.help.clone();
        // That a switch is off unless it is given goes without saying.
        if let Some(default) = self.default.as_deref().filter(|default| *default != "false") {
            text.push_str(&format!(" [default: {default}]"));
        }
        if let Some(also) = self.also {
            text.push_str(&format!(" [also: {also}]"));
        }
        text
    }
}

/// What a setting may be made of.
pub(super) trait SettingValue: Clone + Send + Sync + Sized + 'static {
    /// The flag that takes it.
    fn argument(argument: Arg) -> Arg;

    /// What the flag says.
    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(matches.try_get_one::<Self>(name)?.cloned())
    }

    /// What a variable says.
    fn of_text(text: &str) -> Option<Self>;

    /// What a variable has to say. `value_name` is that of the setting.
    fn expected(value_name: &str) -> String;

    /// As a variable would have it.
    fn text(&self) -> String;

    /// Which values there are, if they are few.
    fn accepted() -> Option<String> {
        None
    }

    /// Whether the flag turns something on by itself.
    const IS_SWITCH: bool = false;
}

impl SettingValue for String {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(value_parser!(String))
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn expected(_: &str) -> String {
        "text is expected".to_owned()
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl SettingValue for PathBuf {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(value_parser!(PathBuf))
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(text.into())
    }

    fn expected(_: &str) -> String {
        "a file name is expected".to_owned()
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

impl SettingValue for SocketAddr {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(value_parser!(SocketAddr))
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn expected(_: &str) -> String {
        "an address with a port is expected".to_owned()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// A switch: `--name` and `--name=true` turn it on.
impl SettingValue for bool {
    const IS_SWITCH: bool = true;

    fn argument(argument: Arg) -> Arg {
        argument
            .value_parser(value_parser!(bool))
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn expected(_: &str) -> String {
        "true or false is expected".to_owned()
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn accepted() -> Option<String> {
        Some("true, false".to_owned())
    }
}

/// A list: the flag may be repeated, and each value of it, like a variable, may hold several, separated by commas.
impl SettingValue for Vec<String> {
    fn argument(argument: Arg) -> Arg {
        argument.value_parser(value_parser!(String)).action(ArgAction::Append).value_delimiter(',')
    }

    fn of_matches(matches: &ArgMatches, name: &str) -> Result<Option<Self>, MatchesError> {
        Ok(matches.try_get_many::<String>(name)?.map(|values| values.cloned().collect()))
    }

    fn of_text(text: &str) -> Option<Self> {
        Some(text.split(',').map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect())
    }

    fn expected(_: &str) -> String {
        "a list separated by commas is expected".to_owned()
    }

    fn text(&self) -> String {
        self.join(",")
    }
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl SettingValue for $number {
            fn argument(argument: Arg) -> Arg {
                argument.value_parser(value_parser!($number))
            }

            fn of_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            /// The name of the value is the unit.
            fn expected(value_name: &str) -> String {
                match value_name {
                    "NUMBER" => "a number is expected".to_owned(),
                    unit => format!("a number of {} is expected", unit.to_ascii_lowercase()),
                }
            }

            fn text(&self) -> String {
                self.to_string()
            }
        })+
    };
}

numbers!(u32, u64, usize);

/// Makes enums settings.
macro_rules! choices {
    ($($choice:ty),+) => {
        $(impl $crate::config::setting::SettingValue for $choice {
            fn argument(argument: clap::Arg) -> clap::Arg {
                argument.value_parser(clap::value_parser!($choice))
            }

            fn of_text(text: &str) -> Option<Self> {
                <Self as clap::ValueEnum>::from_str(text, false).ok()
            }

            fn expected(_: &str) -> String {
                format!("one of {} is expected", $crate::config::setting::names::<Self>())
            }

            fn text(&self) -> String {
                $crate::config::setting::name(self)
            }

            fn accepted() -> Option<String> {
                Some($crate::config::setting::names::<Self>())
            }
        })+
    };
}

pub(super) use choices;

/// The name of one choice.
pub(super) fn name(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().as_ref().map(PossibleValue::get_name).unwrap_or_default().to_owned()
}

/// The names of all choices.
pub(super) fn names<T: ValueEnum>() -> String {
    T::value_variants().iter().map(name).collect::<Vec<_>>().join(", ")
}

type SettingCheck<T> = Box<dyn Fn(&'static str, &T) -> Result<(), ConfigError> + Send + Sync>;

/// A setting with its type and its check.
pub(super) struct Declaration<T> {
    pub(super) setting: Setting,
    /// Another name of the flag.
    alias: Option<&'static str>,
    /// The heading in `--help`.
    heading: Option<String>,
    check: Option<SettingCheck<T>>,
}

impl<T: SettingValue> Declaration<T> {
    /// `field` is the name with underscores.
    pub(super) fn new(field: &str, help: &[&str], group: &'static str) -> Self {
        let mut setting = Setting { accepted: T::accepted(), ..Setting::new(field, help, group) };
        if T::IS_SWITCH {
            setting.value_name = None;
        }
        let heading = format!("{group} (each also as ENTRA_MCP_… variable, and in the configuration file)");
        Self { setting, alias: None, heading: Some(heading), check: None }
    }

    /// What applies if nothing is set.
    pub(super) fn default(mut self, value: &T) -> Self {
        self.setting.default = Some(value.text()).filter(|text| !text.is_empty());
        self
    }

    /// The same in words, where it is no constant.
    pub(super) fn otherwise(mut self, words: &str) -> Self {
        self.setting.default = Some(words.to_owned());
        self
    }

    /// What stands for the value in help texts; of a number, its unit.
    pub(super) fn value(mut self, name: &str) -> Self {
        self.setting.value_name = Some(name.to_owned());
        self
    }

    /// A variable of other tools.
    pub(super) fn also(mut self, variable: &'static str) -> Self {
        self.setting.also = Some(variable);
        self
    }

    /// Another name of the flag.
    pub(super) fn alias(mut self, name: &'static str) -> Self {
        self.alias = Some(name);
        self
    }

    /// It cannot be set in the configuration file.
    pub(super) fn not_in_file(mut self) -> Self {
        self.setting.has_key = false;
        self.heading = None;
        self
    }

    /// Which values are accepted.
    pub(super) fn check<U: ?Sized + 'static>(mut self, check: fn(&'static str, &U) -> Result<(), ConfigError>) -> Self
    where
        T: std::borrow::Borrow<U>,
    {
        self.check = Some(Box::new(move |name, value| check(name, value.borrow())));
        self
    }

    /// The argument of the command line.
    pub(super) fn argument(&'static self) -> Arg {
        let setting = &self.setting;
        let name = setting.name.as_str();
        let argument = Arg::new(name).long(name).value_name(setting.value_name.as_deref()).help(setting.help_text());
        let argument = argument.visible_aliases(self.alias);
        T::argument(argument.action(ArgAction::Set)).help_heading(self.heading.as_deref())
    }

    /// What the command line says. A command that has not this setting says nothing.
    pub(super) fn of_matches(&self, matches: &ArgMatches) -> Result<Option<T>, clap::Error> {
        match T::of_matches(matches, &self.setting.name) {
            Ok(value) => Ok(value),
            Err(MatchesError::UnknownArgument { .. }) => Ok(None),
            Err(error) => Err(clap::Error::raw(clap::error::ErrorKind::Io, error)),
        }
    }

    /// What the environment says. This program's variable wins over one of other tools.
    pub(super) fn of_environment(&'static self, environment: &Environment) -> Result<Option<T>, ConfigError> {
        let setting = &self.setting;
        for name in setting.variable.as_deref().into_iter().chain(setting.also) {
            if let Some(value) = environment.get(name) {
                let expected = || T::expected(setting.value_name.as_deref().unwrap_or_default());
                return match T::of_text(&value) {
                    Some(value) => Ok(Some(value)),
                    None => Err(ConfigError::Invalid { name, value, expected: expected() }),
                };
            }
        }
        Ok(None)
    }

    /// The value, if it is accepted.
    pub(super) fn checked(&'static self, value: T) -> Result<T, ConfigError> {
        if let Some(check) = &self.check {
            check(&self.setting.name, &value)?;
        }
        Ok(value)
    }
}

impl<T: SettingValue + PartialOrd + Display> Declaration<T> {
    /// Which numbers are accepted.
    pub(super) fn range(mut self, range: RangeInclusive<T>) -> Self {
        self.setting.accepted = Some(format!("{} to {}", range.start(), range.end()));
        self.check = Some(Box::new(move |name, value| within(name, value, &range)));
        self
    }
}

impl Declaration<Vec<String>> {
    /// Which elements are accepted.
    pub(super) fn each(mut self, check: fn(&'static str, &str) -> Result<(), ConfigError>) -> Self {
        self.check = Some(Box::new(move |name, values| values.iter().try_for_each(|value| check(name, value))));
        self
    }
}

/// Declares the settings of a group.
///
/// Each source fills a struct of options; clap fills the one of the command line. The checked values are in another
/// struct, where a setting with a default always has a value. `tables` are in the configuration file alone, `variables`
/// in the environment alone: the struct of options has no field for variables, so a secret among them is not merged,
/// cloned or printed with the rest.
/// `with` names groups that have a struct and a heading of their own.
macro_rules! settings {
    (@type $type:ty) => { Option<$type> };
    (@type $type:ty = $default:expr) => { $type };
    (@checked $declaration:expr, $value:expr) => {
        $value.map(|value| $declaration.checked(value)).transpose()?
    };
    (@checked $declaration:expr, $value:expr, $default:expr) => {
        $declaration.checked($value.unwrap_or_else(|| $default))?
    };
    (
        $(#[doc = $doc:literal])+
        pub struct $layer:ident checked as $values:ident, under $group:literal {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $type:ty $(= $default:expr)? $(, $part:ident($($argument:expr)?))*;
            )*
        }
        $(tables {
            $($(#[doc = $table_help:literal])+ $table:ident: $table_type:ty;)*
        })?
        $(variables {
            $($(#[doc = $variable_help:literal])+ $constant:ident = $variable:literal;)*
        })?
        $(with {
            $($(#[doc = $part_doc:literal])+ $part_field:ident: $part_type:ty;)*
        })?
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        pub struct $layer {
            $($(#[doc = $help])+ pub $field: Option<$type>,)*
            $($($(#[doc = $table_help])+ pub $table: Option<$table_type>,)*)?
            $($($(#[doc = $part_doc])+ #[serde(skip)] pub $part_field: $part_type,)*)?
        }

        #[doc = concat!("What [`", stringify!($layer), "`] comes to: checked, and with its defaults.")]
        #[derive(Debug, Clone)]
        pub(in crate::config) struct $values {
            $($(#[doc = $help])+ pub(in crate::config) $field: $crate::config::setting::settings!(@type $type $(= $default)?),)*
        }

        const _: () = {
            use std::sync::LazyLock;

            use clap::{ArgMatches, Args, Command, FromArgMatches};

            use $crate::config::setting::{Declaration, Setting};
            use $crate::config::{ConfigError, Environment};

            struct Declarations {
                $($field: Declaration<$type>,)*
                others: Vec<Setting>,
            }

            static DECLARATIONS: LazyLock<Declarations> = LazyLock::new(|| Declarations {
                $($field: Declaration::<$type>::new(stringify!($field), &[$($help),+], $group)
                    $(.default(&$default))?
                    $(.$part($($argument)?))*,)*
                others: vec![
                    $($(Setting::table(stringify!($table), &[$($table_help),+], $group),)*)?
                    $($(Setting::variable($variable, &[$($variable_help),+], $group),)*)?
                ],
            });

            impl $layer {
                $($(
                    $(#[doc = $variable_help])+
                    pub(in crate::config) const $constant: &'static str = $variable;
                )*)?

                fn own() -> Vec<&'static Setting> {
                    let declared = &*DECLARATIONS;
                    let fields = vec![$(&declared.$field.setting),*];
                    fields.into_iter().chain(&declared.others).collect()
                }

                /// All settings, with those of the groups that belong to them.
                pub(in crate::config) fn settings() -> Vec<&'static Setting> {
                    #[allow(unused_mut, reason = "not every group has others in it")]
                    let mut settings = Self::own();
                    $($(settings.extend(<$part_type>::settings());)*)?
                    settings
                }

                /// The names of what is set here.
                pub(in crate::config) fn names(&self) -> Vec<&'static str> {
                    let declared = &*DECLARATIONS;
                    let fields = [$((self.$field.is_some(), declared.$field.setting.name.as_str())),*];
                    #[allow(unused_mut, reason = "not every group has others in it")]
                    let mut names: Vec<&'static str> =
                        fields.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect();
                    $($(if self.$table.is_some() {
                        names.push(stringify!($table));
                    })*)?
                    $($(names.extend(self.$part_field.names());)*)?
                    names
                }

                /// Leaves a setting as if it were not set. Returns whether it was.
                pub(in crate::config) fn forget(&mut self, name: &str) -> bool {
                    let declared = &*DECLARATIONS;
                    $(if declared.$field.setting.name == name {
                        return self.$field.take().is_some();
                    })*
                    $($(if stringify!($table) == name {
                        return self.$table.take().is_some();
                    })*)?
                    $($(if self.$part_field.forget(name) {
                        return true;
                    })*)?
                    false
                }

                /// What is set here, else what is set `below`.
                pub(in crate::config) fn over(self, below: Self) -> Self {
                    Self {
                        $($field: self.$field.or(below.$field),)*
                        $($($table: self.$table.or(below.$table),)*)?
                        $($($part_field: self.$part_field.over(below.$part_field),)*)?
                    }
                }

                /// What the environment says.
                pub(in crate::config) fn of_environment(environment: &Environment) -> Result<Self, ConfigError> {
                    Ok(Self {
                        $($field: DECLARATIONS.$field.of_environment(environment)?,)*
                        $($($table: None,)*)?
                        $($($part_field: <$part_type>::of_environment(environment)?,)*)?
                    })
                }

                /// What the configuration file says, which loses these keys.
                pub(in crate::config) fn take_from(file: &mut toml::Table) -> Result<Self, toml::de::Error> {
                    let keys = Self::own().into_iter().filter(|setting| setting.has_key);
                    let own: toml::Table = keys.filter_map(|setting| file.remove_entry(&setting.name)).collect();
                    let own: Self = own.try_into()?;
                    $($(let own = Self { $part_field: <$part_type>::take_from(file)?, ..own };)*)?
                    Ok(own)
                }

                /// Checks the settings, each by itself, and adds the defaults.
                pub(in crate::config) fn values(&self) -> Result<$values, ConfigError> {
                    let set = self.clone();
                    Ok($values {
                        $($field: $crate::config::setting::settings!(
                            @checked DECLARATIONS.$field, set.$field $(, $default)?
                        ),)*
                    })
                }
            }

            impl FromArgMatches for $layer {
                fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                    Ok(Self {
                        $($field: DECLARATIONS.$field.of_matches(matches)?,)*
                        $($($table: None,)*)?
                        $($($part_field: <$part_type>::from_arg_matches(matches)?,)*)?
                    })
                }

                fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                    *self = Self::from_arg_matches(matches)?.over(std::mem::take(self));
                    Ok(())
                }
            }

            impl Args for $layer {
                fn augment_args(command: Command) -> Command {
                    let command = command $(.arg(DECLARATIONS.$field.argument()))*;
                    $($(let command = <$part_type>::augment_args(command);)*)?
                    command
                }

                fn augment_args_for_update(command: Command) -> Command {
                    Self::augment_args(command)
                }
            }
        };
    };
}

pub(super) use settings;
