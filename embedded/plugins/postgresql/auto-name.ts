/** How the official plugin makes up a name that the program does not give. */
export const AUTO_NAME = { separator: "-", randomLength: 7, maxLength: 255 } as const;
