interface SdkState {
  readonly LocalStore: new () => { settings: unknown; config: unknown };
  readonly getGlobalStore: () => { settings: unknown; config: unknown };
}

/**
 * Has the SDK take its settings from the environment as it is now: it has read it once, when it was loaded, and in a
 * process that was started ahead that was another one's.
 *
 * @param load `require` of the folder whose SDK is meant
 */
export function readEnvironmentAnew(load: NodeJS.Require): void {
  const state = load("@pulumi/pulumi/runtime/state") as SdkState;
  const { settings, config } = new state.LocalStore();
  Object.assign(state.getGlobalStore(), { settings, config });
}
