//! Compiles `.proto` files and turns a message into a [`Contract`], or says why it can't be one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor,
    Syntax,
};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use super::field::{Field, MAX_CHARACTERS, Presence, Rules, Scalar};
use super::{Contract, ContractError};
use crate::Key;

/// The maximum number of fields.
const MAX_FIELDS: usize = 256;

/// The name of the column that the streamer adds.
const INGESTED_AT: &str = "ingested_at";

const OPTIONS_FILE: &str = "affluent/options/v1/options.proto";
const OPTIONS: &str = include_str!("../../../../proto-schema/affluent/options/v1/options.proto");
const USER_FILE: &str = "affluent/users/v1/user.proto";
const USER: &str = include_str!("../../../../proto-schema/affluent/users/v1/user.proto");
const SOURCE_FILE: &str = "record.proto";

/// Finds a file in memory.
struct Embedded(&'static str, String);

impl FileResolver for Embedded {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == self.0 {
            File::from_source(name, &self.1)
        } else {
            Err(protox::Error::file_not_found(name))
        }
    }
}

static COMPILED_USER: LazyLock<Arc<Contract>> = LazyLock::new(|| {
    Arc::new(embedded(USER_FILE, USER).expect("the compiled-in contract is valid, by a test"))
});

impl Contract {
    /// The compiled-in contract of `affluent.users.v1.User`.
    #[must_use]
    pub fn user() -> Arc<Self> {
        COMPILED_USER.clone()
    }

    /// Compiles the message `message` of a `.proto` file. Its imports are searched in `include`, then in the file's
    /// folder; `google/protobuf/` and `affluent/options/v1/options.proto` are built in. Without `message` the file must
    /// have exactly one message with the option `record`.
    ///
    /// # Errors
    /// [`ContractError`], with the file and the line.
    pub fn load(file: &Path, include: &[PathBuf], message: Option<&str>) -> Result<Self, ContractError> {
        let mut resolver = ChainFileResolver::new();
        for folder in include {
            resolver.add(IncludeFileResolver::new(folder.clone()));
        }
        if let Some(folder) = file.parent() {
            resolver.add(IncludeFileResolver::new(folder.to_owned()));
        }
        compile(resolver, file, message)
    }

    /// Compiles the text of a `.proto` file that has one message with the option `record`.
    ///
    /// # Errors
    /// [`ContractError`]; the file's name is `record.proto`.
    pub fn from_source(proto: &str) -> Result<Self, ContractError> {
        embedded(SOURCE_FILE, proto)
    }
}

fn embedded(file: &'static str, proto: &str) -> Result<Contract, ContractError> {
    let mut resolver = ChainFileResolver::new();
    resolver.add(Embedded(file, proto.to_owned()));
    compile(resolver, Path::new(file), None)
}

fn compile(
    mut resolver: ChainFileResolver,
    file: &Path,
    message: Option<&str>,
) -> Result<Contract, ContractError> {
    resolver.add(Embedded(OPTIONS_FILE, OPTIONS.to_owned()));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).include_source_info(true);
    // The `Debug` form of the compiler's errors has the file and the line.
    let proto = |error: protox::Error| {
        let remedy = if error.is_file_not_found() {
            "; add the folder of a missing import to `record.include`"
        } else {
            ""
        };
        ContractError::Proto(format!("{error:?}{remedy}"))
    };
    compiler.open_file(file).map_err(proto)?;
    compiler.open_file(OPTIONS_FILE).map_err(proto)?;
    let pool = compiler.descriptor_pool();
    let options = Options::new(&pool);
    let message = options.select(&compiler, &pool, file, message)?;
    DescriptorReader {
        options: &options,
        message: &message,
    }
    .contract()
}

/// The options that a contract uses.
struct Options {
    record: prost_reflect::ExtensionDescriptor,
    rule: prost_reflect::ExtensionDescriptor,
}

impl Options {
    fn new(pool: &DescriptorPool) -> Self {
        let extension = |name| {
            pool.get_extension_by_name(name)
                .expect("options.proto declares it")
        };
        Self {
            record: extension("affluent.options.v1.record"),
            rule: extension("affluent.options.v1.rule"),
        }
    }

    fn is_record(&self, message: &MessageDescriptor) -> bool {
        message.options().has_extension(&self.record)
    }

    /// The message of that name, or the only one in `file` with the option `record`.
    fn select(
        &self,
        compiler: &Compiler,
        pool: &DescriptorPool,
        file: &Path,
        name: Option<&str>,
    ) -> Result<MessageDescriptor, ContractError> {
        // The files are in topological order; options.proto may come after the opened one.
        let opened = compiler.files().filter(|file| file.name() != OPTIONS_FILE).last();
        let opened = opened.and_then(|metadata| pool.get_file_by_name(metadata.name()));
        let records: Vec<_> = (opened.iter().flat_map(FileDescriptor::messages))
            .filter(|message| self.is_record(message))
            .collect();
        if let Some(name) = name {
            return pool.get_message_by_name(name).ok_or_else(|| {
                let names: Vec<_> = records.iter().map(MessageDescriptor::full_name).collect();
                ContractError::NoMessage {
                    file: file.to_owned(),
                    message: name.to_owned(),
                    found: if names.is_empty() {
                        "none".to_owned()
                    } else {
                        names.join(", ")
                    },
                }
            });
        }
        match &records[..] {
            [message] => Ok(message.clone()),
            _ => Err(ContractError::NotOneMessage {
                file: file.to_owned(),
                count: records.len(),
            }),
        }
    }
}

/// Reads one message.
struct DescriptorReader<'a> {
    options: &'a Options,
    message: &'a MessageDescriptor,
}

/// A problem and its remedy.
type Problem = (String, String);

fn problem(problem: impl Into<String>, remedy: impl Into<String>) -> Problem {
    (problem.into(), remedy.into())
}

impl DescriptorReader<'_> {
    fn contract(&self) -> Result<Contract, ContractError> {
        let of_message = |problem| self.of_message(problem);
        if self.message.parent_file().syntax() != Syntax::Proto3 {
            return Err(of_message(problem(
                "the file is not proto3",
                "begin it with `syntax = \"proto3\";`",
            )));
        }
        let (resource, key, clustering) = self.record().map_err(of_message)?;
        if self.message.fields().len() > MAX_FIELDS {
            let count = self.message.fields().len();
            return Err(of_message(problem(
                format!("it has {count} fields, more than {MAX_FIELDS}"),
                "split the record",
            )));
        }
        if let Some(oneof) = self.message.oneofs().find(|oneof| !oneof.is_synthetic()) {
            let name = oneof.name().to_owned();
            return Err(of_message(problem(
                format!("the oneof `{name}` is not supported"),
                "make its fields `optional`",
            )));
        }
        let mut fields = Vec::new();
        for field in self.message.fields() {
            fields.push(
                self.field(&field)
                    .map_err(|problem| self.of_field(&field, problem))?,
            );
        }
        let slot = |name: &str, purpose: &str| {
            fields
                .iter()
                .position(|field: &Field| field.name() == name)
                .ok_or_else(|| {
                    of_message(problem(
                        format!("{purpose} `{name}` is not one of its fields"),
                        "name a field of the message",
                    ))
                })
        };
        let key_slot = slot(&key, "the key")?;
        let mut clustering_slots = Vec::new();
        for name in &clustering {
            clustering_slots.push(slot(name, "the clustering field")?);
        }
        let contract = Contract::new(
            self.message.full_name(),
            &resource,
            fields,
            key_slot,
            clustering_slots,
        );
        self.check_primary_key(&contract)?;
        Ok(contract)
    }

    /// The resource, the key and the clustering fields.
    fn record(&self) -> Result<(String, String, Vec<String>), Problem> {
        const EXAMPLE: &str =
            "add `option (affluent.options.v1.record) = { resource: \"orders\" key: \"order_id\" };`";
        let options = self.message.options();
        if !self.options.is_record(self.message) {
            return Err(problem("it has no option `record`", EXAMPLE));
        }
        let record = options.get_extension(&self.options.record);
        let record = record.as_message().expect("the option is a message");
        let (resource, key) = (text(record, "resource"), text(record, "key"));
        let characters =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        if !(1..=32).contains(&resource.len())
            || !resource.bytes().all(characters)
            || !resource.as_bytes()[0].is_ascii_lowercase()
        {
            return Err(problem(
                format!("`{resource}` can't be the resource"),
                "use a lower-case letter, then at most 31 lower-case letters, digits, `-` and `_`",
            ));
        }
        if resource == "schema" {
            return Err(problem(
                "`schema` can't be the resource, because GET /v1/schema is the JSON Schema",
                "choose another name",
            ));
        }
        if key.is_empty() {
            return Err(problem("the option `record` has no key", EXAMPLE));
        }
        let clustering = record.get_field_by_name("clustering");
        let clustering = clustering
            .as_ref()
            .and_then(|names| names.as_list())
            .unwrap_or_default();
        let names = clustering
            .iter()
            .filter_map(|name| name.as_str().map(ToOwned::to_owned));
        Ok((resource, key, names.collect()))
    }

    fn field(&self, field: &FieldDescriptor) -> Result<Field, Problem> {
        if field.name() == INGESTED_AT {
            return Err(problem(
                "the streamer adds a column of this name",
                "rename the field",
            ));
        }
        let kind = field.kind();
        let (presence, kind) = if field.is_map() {
            let Kind::Message(entry) = kind else {
                unreachable!("a map has a message for its entries")
            };
            if entry.map_entry_key_field().kind() != Kind::String {
                return Err(problem(
                    "the keys of a map must be strings",
                    "use `map<string, …>`",
                ));
            }
            (Presence::Map, entry.map_entry_value_field().kind())
        } else if field.is_list() {
            (Presence::List, kind)
        } else if field.field_descriptor_proto().proto3_optional() {
            (Presence::Optional, kind)
        } else {
            (Presence::Required, kind)
        };
        let options = field.options();
        let rule = options.get_extension(&self.options.rule);
        let rule = rule.as_message().expect("the option is a message");
        let scalar = scalar(&kind, rule)?;
        let rules = rules(&scalar, rule)?;
        Ok(Field::new(field.name(), field.number(), presence, scalar, rules))
    }

    fn check_primary_key(&self, contract: &Contract) -> Result<(), ContractError> {
        let mut seen = HashSet::new();
        for slot in contract.primary_key() {
            let field = &contract.fields()[slot];
            let is_key = slot == contract.key();
            let checked = primary_key_field(field, is_key, seen.insert(slot));
            if let Err(problem) = checked {
                let descriptor = self
                    .message
                    .get_field_by_name(field.name())
                    .expect("it is a field");
                return Err(self.of_field(&descriptor, problem));
            }
        }
        Ok(())
    }

    fn of_message(&self, problem: Problem) -> ContractError {
        let subject = format!("message `{}`", self.message.full_name());
        self.unsupported(self.message.path(), subject, problem)
    }

    fn of_field(&self, field: &FieldDescriptor, problem: Problem) -> ContractError {
        self.unsupported(field.path(), format!("field `{}`", field.name()), problem)
    }

    fn unsupported(&self, path: &[i32], subject: String, (problem, remedy): Problem) -> ContractError {
        let file = self.message.parent_file();
        let info = file.file_descriptor_proto().source_code_info.as_ref();
        let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
        let line = location.and_then(|location| location.span.first());
        let place = line.map_or_else(
            || file.name().to_owned(),
            |line| format!("{}:{}", file.name(), line + 1),
        );
        ContractError::Unsupported {
            place,
            subject,
            problem,
            remedy,
        }
    }
}

fn primary_key_field(field: &Field, is_key: bool, is_new: bool) -> Result<(), Problem> {
    let role = if is_key { "the key" } else { "a clustering field" };
    if !is_new {
        return Err(problem(
            "it is in the primary key twice",
            "name each field of `key` and `clustering` once",
        ));
    }
    if field.presence() != Presence::Required {
        return Err(problem(
            format!("{role} must be one value that every record has"),
            "remove `optional` or `repeated`, or choose another field",
        ));
    }
    let is_supported = match field.scalar() {
        Scalar::Text | Scalar::Uuid | Scalar::Int32 | Scalar::Uint32 | Scalar::Int64 => true,
        Scalar::Enum(_) | Scalar::Timestamp => !is_key,
        Scalar::Bool | Scalar::Float | Scalar::Double | Scalar::Bytes => false,
    };
    if !is_supported {
        let types = if is_key {
            "a string, a uuid, or an integer"
        } else {
            "a string, a uuid, an integer, an enum, or a Timestamp"
        };
        return Err(problem(
            format!("{role} can't be of type {}", field.scalar()),
            format!("choose {types}"),
        ));
    }
    if field.is_personal() {
        return Err(problem(
            format!("{role} can't be personal, because it stands in logs, URLs and errors"),
            "remove `personal`, or use a random id",
        ));
    }
    if field.rules.max_length > Key::MAX_CHARACTERS {
        return Err(problem(
            format!("{role} can have {} characters at most", Key::MAX_CHARACTERS),
            "lower `max_length`",
        ));
    }
    Ok(())
}

fn scalar(kind: &Kind, rule: &DynamicMessage) -> Result<Scalar, Problem> {
    Ok(match kind {
        Kind::String if format(rule) == 1 => Scalar::Uuid,
        Kind::String => Scalar::Text,
        Kind::Bool => Scalar::Bool,
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Scalar::Int32,
        Kind::Uint32 | Kind::Fixed32 => Scalar::Uint32,
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Scalar::Int64,
        Kind::Float => Scalar::Float,
        Kind::Double => Scalar::Double,
        Kind::Bytes => Scalar::Bytes,
        Kind::Enum(names) => Scalar::Enum(enum_names(names)?),
        Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => Scalar::Timestamp,
        Kind::Uint64 | Kind::Fixed64 => {
            return Err(problem(
                "unsigned integers of 64 bits have no CQL type",
                "use int64, or a string for larger numbers",
            ));
        }
        Kind::Message(message) => {
            return Err(problem(
                format!("the nested message `{}` is not supported", message.full_name()),
                "give its fields to this message, each with a name of its own",
            ));
        }
    })
}

fn enum_names(names: &EnumDescriptor) -> Result<Box<[Box<str>]>, Problem> {
    let mut numbers = HashSet::new();
    if names.values().any(|value| !numbers.insert(value.number())) {
        return Err(problem(
            format!("the enum `{}` has two names for one number", names.full_name()),
            "remove the aliases",
        ));
    }
    Ok(names.values().map(|value| value.name().into()).collect())
}

fn rules(scalar: &Scalar, rule: &DynamicMessage) -> Result<Rules, Problem> {
    let max_length = rule
        .get_field_by_name("max_length")
        .and_then(|length| length.as_u32());
    let rules = Rules {
        max_length: max_length.filter(|length| *length > 0).unwrap_or(MAX_CHARACTERS),
        email: format(rule) == 2,
        integer_accepted: flag(rule, "integer_accepted"),
        personal: flag(rule, "personal"),
    };
    let has_text_rule = rule.has_field_by_name("max_length") || rules.email || rules.integer_accepted;
    let remedy = "remove the rule; only `personal` fits each type";
    match scalar {
        Scalar::Text => Ok(rules),
        Scalar::Uuid if has_text_rule => Err(problem(
            "`max_length` and `integer_accepted` do not fit a uuid",
            remedy,
        )),
        _ if has_text_rule || (format(rule) != 0 && *scalar != Scalar::Uuid) => Err(problem(
            "`format`, `max_length` and `integer_accepted` are for strings",
            remedy,
        )),
        _ => Ok(rules),
    }
}

fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn flag(message: &DynamicMessage, field: &str) -> bool {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

fn format(rule: &DynamicMessage) -> i32 {
    rule.get_field_by_name("format")
        .and_then(|format| format.as_enum_number())
        .unwrap_or_default()
}
