// Judges objects of Kubernetes operators: JSON objects, one a line, on standard input; what is wrong with them on standard
// output, one fault a line. The schemas let unknown fields pass, so a field that the schema's program never asked for is one.
import { createInterface } from "node:readline";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as monitoring from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const kinds = { "keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": monitoring };

function watched(value, path, asked) {
  if (value === null || typeof value !== "object") return value;
  return new Proxy(value, {
    get(target, name) {
      const found = Reflect.get(target, name);
      if (typeof name === "symbol" || !Object.hasOwn(target, name)) return found;
      asked.add(`${path}/${name}`);
      return watched(found, `${path}/${name}`, asked);
    },
  });
}

function* unasked(value, path, asked) {
  if (value === null || typeof value !== "object") return;
  for (const [name, each] of Object.entries(value)) {
    if (asked.has(`${path}/${name}`)) yield* unasked(each, `${path}/${name}`, asked);
    else yield `${path}/${name} is unknown`;
  }
}

function* faults(object) {
  const model = kinds[object.apiVersion]?.[object.kind];
  if (!model) {
    yield `no schema for ${object.apiVersion} ${object.kind}`;
    return;
  }
  const asked = new Set();
  const known = new model(); // which would copy what it is given
  for (const name of Object.keys(object)) {
    const get = () => {
      asked.add(`/${name}`);
      return watched(object[name], `/${name}`, asked);
    };
    Object.defineProperty(known, name, { get });
  }
  try {
    known.validate();
  } catch (error) {
    for (const each of error.errors ?? [error]) yield `${each.instancePath ?? ""} ${each.message}`;
    return;
  }
  yield* unasked(object, "", asked);
}

for await (const line of createInterface({ input: process.stdin })) {
  const object = JSON.parse(line);
  for (const fault of faults(object)) console.log(`${object.kind} ${object.metadata?.name}: ${fault}`);
}
