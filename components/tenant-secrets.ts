import type * as pulumi from "@pulumi/pulumi";
import * as random from "@pulumi/random";
import { deriveSecret, SEED_LETTERS } from "../model/tenant-secret.ts";
import type { SecretPurpose } from "../model/tenant-secret.ts";

/**
 * The random secrets of one tenant: one seed for each generation, in the state alone, and every secret out of it. Who
 * has one of them learns nothing of the others; a resource for each would cost an `up` a tenth of a second more, most of
 * it for a hash that nobody asks for.
 */
export class TenantSecrets {
  readonly #name: string;
  readonly #parent: pulumi.Resource;
  readonly #seeds = new Map<number, random.RandomPassword>();

  constructor(name: string, parent: pulumi.Resource) {
    this.#name = name;
    this.#parent = parent;
  }

  /**
   * The secret of a purpose, ASCII.
   *
   * @param generation From 1; raising it mints new ones and keeps those of a former one that is still asked for.
   */
  of(purpose: SecretPurpose, generation: number): pulumi.Output<string> {
    return this.#seed(generation).result.apply((seed) => deriveSecret(seed, purpose));
  }

  #seed(generation: number): random.RandomPassword {
    const made = this.#seeds.get(generation);
    if (made !== undefined) {
      return made;
    }
    // Not RandomBytes: its id is its value, and ids stand in the state in clear.
    const seed = new random.RandomPassword(
      `${this.#name}-seed-${generation}`,
      { length: SEED_LETTERS, special: false },
      { parent: this.#parent },
    );
    this.#seeds.set(generation, seed);
    return seed;
  }
}
