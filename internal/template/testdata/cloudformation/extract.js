// Extracts the specification of some resource types: see README.md.
const fs = require("fs");
const zlib = require("zlib");

const [source, target, ...names] = process.argv.slice(2);
const schema = JSON.parse(zlib.gunzipSync(fs.readFileSync(source))).schema;
const definitions = new Map(schema.typeDefinition.entities.map((d) => [d.$id, d]));

// shape is a type without its documentation and history. The types that it refers to go to used.
function shape(type, used) {
  switch (type.type) {
    case "array":
    case "map":
      return { [type.type]: shape(type.element, used) };
    case "union":
      return { union: type.types.map((t) => shape(t, used)) };
    case "ref": {
      const definition = definitions.get(type.reference.$ref);
      used.push(definition);
      return { ref: definition.name };
    }
  }
  return type.type;
}

// block is an object with one property a line.
function block(indent, properties, used) {
  const lines = Object.entries(properties)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, p]) => {
      const value = { type: shape(p.type, used), ...(p.required && { required: true }) };
      return `${indent}  ${JSON.stringify(name)}: ${JSON.stringify(value)}`;
    });
  return `{\n${lines.join(",\n")}\n${indent}}`;
}

const resources = names.map((name) => {
  const resource = schema.resource.entities.find((r) => r.cloudFormationType === name);
  const used = [];
  const properties = block("    ", resource.properties, used);
  const types = new Map();
  while (used.length > 0) {
    const definition = used.pop();
    if (!types.has(definition.name)) {
      types.set(definition.name, "");
      types.set(definition.name, block("      ", definition.properties, used));
    }
  }
  const lines = [...types].sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => `      ${JSON.stringify(k)}: ${v}`);
  return `  ${JSON.stringify(name)}: {
    "attributes": ${JSON.stringify(Object.keys(resource.attributes).sort())},
    "properties": ${properties},
    "types": {\n${lines.join(",\n")}\n    }
  }`;
});
fs.writeFileSync(target, `{\n${resources.join(",\n")}\n}\n`);
