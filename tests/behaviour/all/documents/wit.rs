//! The WIT package as Markdown.

use std::fmt::Write as _;

use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, InterfaceId, PackageId, Resolve, Stability, Type, TypeDef,
    TypeDefKind, TypeId, World, WorldItem, WorldKey,
};

use crate::support::tests_dir;

const HEAD: &str = "<!-- Generated from wit/ by the test `documents`: change the text there, not here. -->\n\n";

/// The package `entra-mcp:plugin`, resolved.
pub(super) struct Contract {
    resolve: Resolve,
    package: PackageId,
}

impl Contract {
    pub(super) fn read() -> Self {
        let mut resolve = Resolve { all_features: true, ..Resolve::default() };
        let (package, _) = resolve.push_dir(tests_dir().join("../wit")).expect("the package resolves");
        Self { resolve, package }
    }

    /// All interfaces and worlds.
    pub(super) fn reference(&self) -> String {
        let package = &self.resolve.packages[self.package];
        let mut page =
            format!("{HEAD}# WIT interfaces\n\nThe package `{}`, as in the folder `wit/`.\n\n", package.name);
        paragraph(&mut page, &package.docs);
        let mut worlds: Vec<_> = package.worlds.values().map(|id| &self.resolve.worlds[*id]).collect();
        worlds.sort_by(|one, other| one.name.cmp(&other.name));
        for world in worlds {
            self.world(&mut page, world);
        }
        let mut interfaces: Vec<_> = package.interfaces.iter().collect();
        interfaces.sort();
        for (name, id) in interfaces {
            writeln!(page, "## {name}\n").unwrap();
            self.interface(&mut page, *id);
        }
        format!("{}\n", page.trim_end())
    }

    /// The events that the interface `audit` names.
    pub(super) fn audit_events(&self) -> String {
        let mut page = format!("{HEAD}# Audit events\n\nWhat the component records, in the words of its contract.\n");
        page.push_str("[Audit records](audit.md) says how `serve` writes these events.\n\n");
        let id = self.resolve.packages[self.package].interfaces["audit"];
        let interface = &self.resolve.interfaces[id];
        paragraph(&mut page, &interface.docs);
        for name in ["event", "outcome"] {
            writeln!(page, "## {name}\n").unwrap();
            self.definition(&mut page, &self.resolve.types[interface.types[name]]);
        }
        format!("{}\n", page.trim_end())
    }

    fn world(&self, page: &mut String, world: &World) {
        writeln!(page, "## The world {}\n", world.name).unwrap();
        paragraph(page, &world.docs);
        page.push_str("| | interface |\n| --- | --- |\n");
        for (direction, items) in [("imports", &world.imports), ("exports", &world.exports)] {
            for (key, item) in items {
                let name = self.resolve.name_world_key(key);
                let shown = match (key, item) {
                    (WorldKey::Interface(id), WorldItem::Interface { .. }) if self.is_ours(*id) => {
                        let name = self.resolve.interfaces[*id].name.clone().expect("a key names it");
                        format!("[`{name}`](#{name})")
                    }
                    _ => format!("`{name}`"),
                };
                writeln!(page, "| {direction} | {shown} |").unwrap();
            }
        }
        page.push('\n');
    }

    fn is_ours(&self, id: InterfaceId) -> bool {
        self.resolve.interfaces[id].package == Some(self.package)
    }

    fn interface(&self, page: &mut String, id: InterfaceId) {
        let interface = &self.resolve.interfaces[id];
        match &interface.stability {
            Stability::Unstable { feature, .. } => writeln!(page, "Unstable: feature `{feature}`.\n").unwrap(),
            Stability::Stable { since, .. } => writeln!(page, "Since {since}.\n").unwrap(),
            Stability::Unknown => {}
        }
        paragraph(page, &interface.docs);
        for (name, id) in &interface.types {
            let definition = &self.resolve.types[*id];
            if let TypeDefKind::Type(Type::Id(used)) = definition.kind
                && let Some(from) = self.interface_of(used)
            {
                writeln!(page, "Uses `{name}` of [`{from}`](#{from}).\n").unwrap();
                continue;
            }
            writeln!(page, "### {} {name}\n", kind(definition)).unwrap();
            self.definition(page, definition);
            self.functions(page, interface, Some(*id));
        }
        self.functions(page, interface, None);
    }

    fn interface_of(&self, id: TypeId) -> Option<&str> {
        match self.resolve.types[id].owner {
            wit_parser::TypeOwner::Interface(id) => self.resolve.interfaces[id].name.as_deref(),
            _ => None,
        }
    }

    /// The functions of an interface, or of a resource in it.
    fn functions(&self, page: &mut String, interface: &Interface, resource: Option<TypeId>) {
        for function in interface.functions.values().filter(|function| function.kind.resource() == resource) {
            let level = if resource.is_some() { "####" } else { "###" };
            writeln!(page, "{level} {}\n\n```wit\n{};\n```\n", function.item_name(), self.signature(function)).unwrap();
            paragraph(page, &function.docs);
        }
    }

    fn signature(&self, function: &Function) -> String {
        let own = usize::from(matches!(function.kind, FunctionKind::Method(_) | FunctionKind::AsyncMethod(_)));
        let parameters: Vec<_> = function
            .params
            .iter()
            .skip(own)
            .map(|parameter| format!("{}: {}", parameter.name, self.name(&parameter.ty)))
            .collect();
        let kind = match function.kind {
            FunctionKind::Static(_) | FunctionKind::AsyncStatic(_) => "static func",
            _ => "func",
        };
        let result = function.result.map(|ty| format!(" -> {}", self.name(&ty))).unwrap_or_default();
        format!("{}: {kind}({}){result}", function.item_name(), parameters.join(", "))
    }

    /// What a type is, and what is said of it and its parts.
    fn definition(&self, page: &mut String, definition: &TypeDef) {
        paragraph(page, &definition.docs);
        let with = |ty: &Option<Type>| ty.map(|ty| format!("({})", self.name(&ty))).unwrap_or_default();
        let parts: Vec<(String, &Docs)> = match &definition.kind {
            TypeDefKind::Record(record) => {
                let shown = |field: &wit_parser::Field| format!("{}: {}", field.name, self.name(&field.ty));
                record.fields.iter().map(|field| (shown(field), &field.docs)).collect()
            }
            TypeDefKind::Variant(variant) => {
                let shown = |case: &wit_parser::Case| format!("{}{}", case.name, with(&case.ty));
                variant.cases.iter().map(|case| (shown(case), &case.docs)).collect()
            }
            TypeDefKind::Enum(all) => all.cases.iter().map(|case| (case.name.clone(), &case.docs)).collect(),
            TypeDefKind::Flags(all) => all.flags.iter().map(|flag| (flag.name.clone(), &flag.docs)).collect(),
            TypeDefKind::Resource => Vec::new(),
            _ => {
                writeln!(page, "`{}`\n", self.structure(definition)).unwrap();
                Vec::new()
            }
        };
        for (part, docs) in &parts {
            match docs.contents.as_deref().map(str::trim_end) {
                None => writeln!(page, "- `{part}`").unwrap(),
                Some(docs) => {
                    writeln!(page, "- `{part}`:").unwrap();
                    for line in docs.lines() {
                        writeln!(page, "{}", format!("  {line}").trim_end()).unwrap();
                    }
                }
            }
        }
        if !parts.is_empty() {
            page.push('\n');
        }
    }

    fn name(&self, ty: &Type) -> String {
        let Type::Id(id) = ty else { return primitive(*ty).to_owned() };
        let definition = &self.resolve.types[*id];
        definition.name.clone().unwrap_or_else(|| self.structure(definition))
    }

    fn structure(&self, definition: &TypeDef) -> String {
        let or_nothing = |ty: &Option<Type>| ty.map_or_else(|| "_".to_owned(), |ty| self.name(&ty));
        match &definition.kind {
            TypeDefKind::Type(ty) => self.name(ty),
            TypeDefKind::Option(ty) => format!("option<{}>", self.name(ty)),
            TypeDefKind::List(ty) => format!("list<{}>", self.name(ty)),
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", tuple.types.iter().map(|ty| self.name(ty)).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(result) => match (&result.ok, &result.err) {
                (None, None) => "result".to_owned(),
                (ok, None) => format!("result<{}>", or_nothing(ok)),
                (ok, err) => format!("result<{}, {}>", or_nothing(ok), or_nothing(err)),
            },
            TypeDefKind::Handle(Handle::Own(id)) => self.name(&Type::Id(*id)),
            TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", self.name(&Type::Id(*id))),
            other => panic!("the contract has a new kind of type: {other:?}"),
        }
    }
}

fn paragraph(page: &mut String, docs: &Docs) {
    if let Some(text) = &docs.contents {
        writeln!(page, "{}\n", text.trim_end()).unwrap();
    }
}

fn kind(definition: &TypeDef) -> &'static str {
    match definition.kind {
        TypeDefKind::Record(_) | TypeDefKind::Variant(_) | TypeDefKind::Enum(_) | TypeDefKind::Flags(_) => {
            definition.kind.as_str()
        }
        TypeDefKind::Resource => "resource",
        _ => "type",
    }
}

fn primitive(ty: Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        other => panic!("the contract has a new kind of type: {other:?}"),
    }
}
