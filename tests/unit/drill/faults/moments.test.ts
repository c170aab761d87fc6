import { expect, test } from "bun:test";
import { imagePushed, leaseConfirmation, publishTo, tagPut } from "../../../drill/faults/moments.ts";

/** basic.publish: class, method, a reserved field, the exchange and the queue. */
function publish(queue: string): Buffer {
  const head = Buffer.from([1, 0, 1, 0, 0, 0, 30, 0, 60, 0, 40, 0, 0, 0, queue.length]);
  return Buffer.concat([head, Buffer.from(queue), Buffer.from([0, 0xce])]);
}

test("drill moments: a publish is recognized by its queue, also behind another one in the same chunk", () => {
  const isResult = publishTo("jobs.results");
  expect(isResult(publish("jobs.results"))).toBe(true);
  expect(isResult(publish("jobs.ready.us-east-1.low"))).toBe(false);
  expect(isResult(Buffer.concat([publish("jobs.ready.us-east-1.low"), publish("jobs.results")]))).toBe(true);
  expect(publishTo("jobs.ready.")(publish("jobs.ready.us-east-1.low"))).toBe(true);
  expect(isResult(Buffer.from("a message that names jobs.results"))).toBe(false);
});

test("drill moments: the tag of a version differs from manifests that are put by digest", () => {
  const request = (line: string) => Buffer.from(`${line} HTTP/1.1\r\nhost: registry\r\n\r\n`);
  expect(tagPut(request("PUT /v2/drill-one/manifests/v-0001"))).toBe(true);
  expect(tagPut(request("PUT /v2/drill-one/manifests/sha256:0123"))).toBe(false);
  expect(imagePushed(request("GET /v2/drill-one/manifests/sha256:0123"))).toBe(true);
  expect(imagePushed(request("GET /v2/drill-one/manifests/v-0001"))).toBe(false);
});

test("drill moments: a confirmation of a lease has a job, and no region as a registration has", () => {
  expect(leaseConfirmation(Buffer.from("worker-1 incarnation drill-0123abcd-0001"))).toBe(true);
  expect(leaseConfirmation(Buffer.from("worker-1 us-east-1 drill-0123abcd-0001"))).toBe(false);
  expect(leaseConfirmation(Buffer.from("worker-1 incarnation"))).toBe(false);
});
