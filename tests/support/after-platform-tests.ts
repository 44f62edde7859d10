import { platformFacts } from "../../embedded/machines/platform.ts";
import { deleteNeighbours } from "./tenants.ts";

/** Runs when the last file of the platform's tests has ended. */
export async function teardown(): Promise<void> {
  if ((await platformFacts()) !== undefined) await deleteNeighbours();
}
