/** Reads plain property bags, and says what went wrong with one object of a server. */
import type { Properties, Value } from "../provider.ts";
import { sqlState } from "./server.ts";
import type { Server } from "./server.ts";

/** The connected server; throws while the provider is not configured. */
export type GetServer = () => Server;

export function text(properties: Properties, name: string): string {
  const value = properties[name];
  return typeof value === "string" ? value : "";
}

export function flag(properties: Properties, name: string): boolean {
  return properties[name] === true;
}

export function number(properties: Properties, name: string): number {
  const value = properties[name];
  return typeof value === "number" ? value : 0;
}

export function list(properties: Properties, name: string): readonly string[] {
  const value = properties[name];
  return Array.isArray(value) ? value.filter((element) => typeof element === "string") : [];
}

/** Texts of a row's array column. */
export function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

/** A list as the state has it: absent when empty. */
export function unlessEmpty(name: string, values: readonly Value[]): Properties {
  return values.length === 0 ? {} : { [name]: [...values] };
}

/** The properties but those named. */
export function without(properties: Properties, ...names: readonly string[]): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([name]) => !names.includes(name)));
}

/** Runs the work; a server's refusal becomes one sentence about the object, without the statement. */
export async function about<T>(subject: string, verb: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const state = sqlState(error);
    if (state === undefined || !(error instanceof Error)) throw error;
    throw new Error(
      `${subject}: the server must let it be ${verb}, got: ${error.message} (${state}). ${wayOut(state)}`,
      { cause: error },
    );
  }
}

function wayOut(state: string): string {
  switch (state) {
    case "42710": // duplicate object
    case "42P04": // duplicate database
      return (
        "If a run that was cut off made it, take it into the stack with pulumi import; " +
        "else choose another name."
      );
    case "2BP01": // dependent objects still exist
      return "Remove what depends on it first.";
    case "42501": // insufficient privilege
      return "Connect as a user with the rights for it.";
    case "42704": // undefined object
    case "3D000": // undefined database
    case "3F000": // undefined schema
      return "Make what it names first, with dependsOn.";
    default:
      return "Correct the inputs, or the server's state.";
  }
}
