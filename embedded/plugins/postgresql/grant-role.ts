/** Membership of one role in another. */
import type { BridgedResource } from "../bridged.ts";
import type { Properties } from "../provider.ts";
import { about, flag, text } from "./fields.ts";
import type { GetServer } from "./fields.ts";
import { quoteName } from "./server.ts";

function revoke(properties: Properties): string {
  const { role, group } = names(properties);
  return `REVOKE ${quoteName(group)} FROM ${quoteName(role)}`;
}

function names(properties: Properties): { readonly role: string; readonly group: string } {
  return { role: text(properties, "role"), group: text(properties, "grantRole") };
}

function idOf(properties: Properties): string {
  const { role, group } = names(properties);
  return `${role}_${group}_${flag(properties, "withAdminOption")}`;
}

/** `postgresql:index/grantRole:GrantRole`. */
export function grantRoleResource(getServer: GetServer): BridgedResource {
  const read = async (properties: Properties): Promise<Properties | undefined> => {
    const { role, group } = names(properties);
    const [row] = await getServer().session((session) =>
      session.rows(
        `SELECT bool_or(admin_option) AS admin FROM pg_catalog.pg_auth_members
         WHERE pg_get_userbyid(member) = $1 AND pg_get_userbyid(roleid) = $2 HAVING count(*) > 0`,
        [role, group],
      ),
    );
    return row === undefined
      ? undefined
      : { role, grantRole: group, withAdminOption: row["admin"] === true };
  };
  return {
    properties: {
      grantRole: { kind: "string", use: "required", forceNew: true },
      role: { kind: "string", use: "required", forceNew: true },
      withAdminOption: { kind: "bool", use: "optional", default: false, forceNew: true },
    },
    async create(planned) {
      const { role, group } = names(planned);
      const grant =
        `GRANT ${quoteName(group)} TO ${quoteName(role)}` +
        (flag(planned, "withAdminOption") ? " WITH ADMIN OPTION" : "");
      return about(`GrantRole "${idOf(planned)}"`, "created", async () => {
        await getServer().transaction((session) => session.run(revoke(planned), grant));
        return { id: idOf(planned), state: (await read(planned)) ?? planned };
      });
    },
    read: async (id, prior) => about(`GrantRole "${id}"`, "read", () => read(prior)),
    async delete(id, prior) {
      await about(`GrantRole "${id}"`, "deleted", () =>
        getServer().transaction(async (session) => {
          const { role, group } = names(prior);
          const found = await session.rows(
            "SELECT FROM pg_catalog.pg_roles WHERE rolname IN ($1, $2)",
            [role, group],
          );
          // With either role gone the membership is gone too.
          if (found.length === 2) await session.run(revoke(prior));
        }),
      );
    },
  };
}
