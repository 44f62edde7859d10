import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Refusal } from "../model/refusal.ts";
import { checkRootKey, parseRootKey } from "../model/settings-key.ts";
import type { RootKey } from "../model/settings-key.ts";
import type { FleetSettings, SecretReference } from "../model/settings.ts";

/** Variables of the process, by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** Reads what settings name but do not hold. */
export interface SecretSource {
  /**
   * The text behind a reference, without the line end at its end.
   *
   * @param setting Name of the setting that holds the reference, for errors.
   * @throws Refusal `SECRET_MISSING`.
   */
  read(reference: SecretReference, setting: string): string;
  /**
   * The text of a file that is no secret.
   *
   * @throws Refusal `SECRET_MISSING`.
   */
  readPublic(path: string, setting: string): Buffer;
  /**
   * The root of all tenants' keys, checked to be this fleet's own.
   *
   * @throws Refusal `SECRET_MISSING` or `ROOT_KEY`.
   */
  rootKey(fleet: FleetSettings): RootKey;
}

const ROOT_KEY_VARIABLE = "SETTINGS_ENCRYPTION_KEY";

/**
 * Secrets from this machine's files and the process's variables.
 *
 * @param folder Folder that relative paths start from: the project's.
 */
export function secretSource(folder: string, environment: Environment): SecretSource {
  const file = (path: string, setting: string): Buffer => {
    try {
      return readFileSync(resolve(folder, path));
    } catch (error) {
      const reason = (error as NodeJS.ErrnoException).code ?? "an unknown fault";
      throw new Refusal(
        "SECRET_MISSING",
        `Setting "${setting}": its file must be readable, got ${reason} at "${path}". Put the file there, or name the right one in the setting.`,
        { cause: error },
      );
    }
  };
  const variable = (name: string, setting: string): string => {
    const value = environment[name];
    if (value === undefined || value === "") {
      throw new Refusal(
        "SECRET_MISSING",
        `Setting "${setting}": the variable ${name} must hold the secret, got none. Set it for the deploy, or name another source in the setting.`,
      );
    }
    return value;
  };
  const read = (reference: SecretReference, setting: string): string => {
    const text =
      "file" in reference
        ? file(reference.file, setting).toString("utf8")
        : variable(reference.env, setting);
    const trimmed = text.replace(/\r?\n$/, "");
    if (trimmed === "") {
      throw new Refusal(
        "SECRET_MISSING",
        `Setting "${setting}": its secret must not be empty, got nothing. Write the secret where the setting points.`,
      );
    }
    return trimmed;
  };
  return {
    read,
    readPublic: file,
    rootKey: (fleet) => {
      const path = environment[`${ROOT_KEY_VARIABLE}_FILE`];
      const held = environment[ROOT_KEY_VARIABLE];
      if (held === undefined && path === undefined) {
        throw new Refusal(
          "SECRET_MISSING",
          `Fleet "${fleet.name}": ${ROOT_KEY_VARIABLE} or ${ROOT_KEY_VARIABLE}_FILE must be set for a deploy of a tenant, got neither. Give the key that the fleet was made with; it is kept outside every stack.`,
        );
      }
      const root =
        held !== undefined
          ? parseRootKey(held, ROOT_KEY_VARIABLE)
          : parseRootKey(
              read({ file: path ?? "" }, `${ROOT_KEY_VARIABLE}_FILE`),
              `${ROOT_KEY_VARIABLE}_FILE`,
            );
      checkRootKey(root, fleet.name, fleet.settingsKeyId);
      return root;
    },
  };
}
