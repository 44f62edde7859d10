type Props = Record<string, unknown>;

/**
 * Sets one field of a value: dots part the steps of a path, `\.` is a dot, and a last step into a list of variables
 * that is no place is a variable's name. `undefined` removes the field.
 *
 * @param open what a step leads to, where that stands for something else. @default itself
 */
export function setPath(
  props: object,
  path: string,
  value: unknown,
  open: (inner: unknown) => unknown = (inner) => inner,
): void {
  const steps = path.split(/(?<!\\)\./).map((step) => step.replaceAll("\\.", "."));
  const last = steps.pop() ?? "";
  let target: unknown = props;
  for (const step of steps) target = open(((target as Props)[step] ??= {}));
  if (Array.isArray(target) && !/^\d+$/.test(last)) {
    const variables = target as { name?: string; value?: unknown }[];
    const place = variables.findIndex(({ name }) => name === last);
    if (place < 0) throw new Error(`${path} must name a variable`);
    if (value === undefined) variables.splice(place, 1);
    else variables[place] = { ...variables[place], value };
  } else if (value === undefined) {
    Reflect.deleteProperty(target as Props, last);
  } else {
    (target as Props)[last] = value;
  }
}
