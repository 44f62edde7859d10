/** Every code a refusal can carry; `docs/errors.md` says for each what it means and the way out. */
export const REFUSAL_CODES = [
  "SETTING_INVALID",
  "STACK_KIND",
  "STACK_NAME",
  "FLEET_FILE",
  "SECRET_MISSING",
  "ROOT_KEY",
  "LOCATION_UNKNOWN",
  "LOCATION_FIXED",
  "ZONE_MISMATCH",
  "CONTRACT_MISSING",
  "BACKUP_OUT_OF_ZONE",
  "TENANT_NAME",
  "KEY_GENERATION",
  "AUTHORITY_KEY",
  "ENVIRONMENT_SHARED",
] as const;

/** One of {@link REFUSAL_CODES}. */
export type RefusalCode = (typeof REFUSAL_CODES)[number];

/**
 * A wrong input that the caller can put right: it is shown without a stack trace.
 *
 * The message is one sentence per fault, `<Subject> "<name>": <rule>, got <value>. <Way out>.`, and
 * never holds a secret.
 */
export class Refusal extends Error {
  /** What was refused, for programs; `docs/errors.md` lists every code. */
  public readonly code: RefusalCode;

  constructor(code: RefusalCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "Refusal";
    this.code = code;
  }
}
