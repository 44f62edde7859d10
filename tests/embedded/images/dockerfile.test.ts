import { describe, expect, it } from "vitest";
import { readLastStage } from "../../../embedded/images/dockerfile.ts";

describe("readLastStage", () => {
  it("reads how to run the image out of the last stage alone", () => {
    const dockerfile = `# comment
FROM golang:1.26 AS build
WORKDIR /src
USER root
LABEL stage=build
COPY . .
RUN go build -o /out/x . && \\
    strip /out/x

FROM scratch
COPY --from=build /out/x /x
COPY --from=build /out/y /lib/y
ENV A=1 B="two words"
LABEL one="first label" \\
      two=second
EXPOSE 53/udp 53/tcp
WORKDIR /data
USER 65532:65532
ENTRYPOINT ["/x", "--flag"]
CMD ["serve"]
`;
    expect(readLastStage("x", dockerfile)).toEqual({
      config: {
        Env: ["A=1", "B=two words"],
        Labels: { one: "first label", two: "second" },
        ExposedPorts: { "53/udp": {}, "53/tcp": {} },
        WorkingDir: "/data",
        User: "65532:65532",
        Entrypoint: ["/x", "--flag"],
        Cmd: ["serve"],
      },
      copied: ["/x", "/lib/y"],
    });
  });

  it("refuses an instruction that it does not know", () => {
    expect(() => readLastStage("x", "FROM scratch\nVOLUME /data\n")).toThrow(
      new Error('Dockerfile of "x": every instruction must be a known one, got "VOLUME /data".'),
    );
  });

  it("refuses a command that a shell would have to read", () => {
    expect(() => readLastStage("x", "FROM scratch\nENTRYPOINT /x --flag\n")).toThrow(
      new Error('Dockerfile of "x": a command must be a JSON list, got "ENTRYPOINT /x --flag".'),
    );
  });
});
