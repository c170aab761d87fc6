/** Messages with properties that amqplib cannot encode, as other AMQP clients can send them. */
import type { Channel, ChannelModel } from "amqplib";

const BASIC = 60;
const PUBLISH = 40;
const METHOD_FRAME = 1;
const HEADER_FRAME = 2;
const BODY_FRAME = 3;
const FRAME_END = 0xce;

/** Encoded properties of a message, in the order of AMQP 0-9-1. */
export interface RawProperties {
  readonly contentType?: Buffer;
  /** The entries of the table, encoded. */
  readonly headers?: Buffer;
  readonly correlationId?: Buffer;
  readonly messageId?: Buffer;
  readonly timestamp?: bigint;
}

/** One entry of a headers table: an AMQP type tag, and the encoded value. */
export function headerEntry(name: string | Buffer, tag: string, value: Buffer): Buffer {
  return Buffer.concat([shortString(Buffer.from(name)), Buffer.from(tag), value]);
}

/** A text or a nested table, with its length. */
export function longString(content: Buffer): Buffer {
  return Buffer.concat([uint32(content.length), content]);
}

/** Publishes to a queue without any check of the properties. The broker may close the channel. */
export function publishRaw(channel: Channel, queue: string, properties: RawProperties, body: Buffer): void {
  const { connection, ch } = channel as unknown as {
    readonly connection: ChannelModel["connection"];
    readonly ch: number;
  };
  const { stream } = connection as unknown as { readonly stream: { write(bytes: Buffer): void } };
  const method = Buffer.concat([
    uint16(BASIC),
    uint16(PUBLISH),
    uint16(0),
    shortString(Buffer.alloc(0)),
    shortString(Buffer.from(queue)),
    Buffer.from([0]),
  ]);
  const header = Buffer.concat([uint16(BASIC), uint16(0), uint64(BigInt(body.length)), encoded(properties)]);
  stream.write(
    Buffer.concat([
      frame(METHOD_FRAME, ch, method),
      frame(HEADER_FRAME, ch, header),
      frame(BODY_FRAME, ch, body),
    ]),
  );
}

function encoded({ contentType, headers, correlationId, messageId, timestamp }: RawProperties): Buffer {
  const given: readonly (readonly [flag: number, value: Buffer | undefined])[] = [
    [1 << 15, contentType && shortString(contentType)],
    [1 << 13, headers && longString(headers)],
    [1 << 10, correlationId && shortString(correlationId)],
    [1 << 7, messageId && shortString(messageId)],
    [1 << 6, timestamp === undefined ? undefined : uint64(timestamp)],
  ];
  const present = given.filter(([, value]) => value !== undefined);
  const flags = present.reduce((all, [flag]) => all | flag, 0);
  return Buffer.concat([uint16(flags), ...present.map(([, value]) => value as Buffer)]);
}

function frame(type: number, channel: number, payload: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from([type]),
    uint16(channel),
    uint32(payload.length),
    payload,
    Buffer.from([FRAME_END]),
  ]);
}

function shortString(content: Buffer): Buffer {
  return Buffer.concat([Buffer.from([content.length]), content]);
}

function uint16(value: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(value);
  return bytes;
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function uint64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
