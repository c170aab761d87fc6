/**
 * The standard server reflection service, versions v1 and v1alpha
 * (https://github.com/grpc/grpc/blob/master/doc/server-reflection.md).
 * The package @grpc/reflection reads its .proto from disk when it is used, and a compiled binary does not have that
 * file; so only stubs generated from the .proto are used, and the descriptors that buf wrote are embedded.
 */
import { readFileSync } from "node:fs";
import { createFileRegistry, type DescFile, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { type Server, status } from "@grpc/grpc-js";
import descriptorPath from "./generated/blacktree.binpb" with { type: "file" };
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  type ServerReflectionServer,
  ServerReflectionService,
} from "./generated/grpc/reflection/v1/reflection.ts";

type Registry = ReturnType<typeof createFileRegistry>;
type Answer = Omit<ServerReflectionResponse, "validHost" | "originalRequest">;

/** Listed without descriptors: clients of the standard services have them already. */
const STANDARD_SERVICES = ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"];

export function addReflectionService(server: Server, serviceNames: readonly string[]): void {
  const listed = [...serviceNames, ...STANDARD_SERVICES];
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptorPath)));
  const implementation: ServerReflectionServer = {
    serverReflectionInfo(call) {
      call.on("data", (request: ServerReflectionRequest) => {
        call.write({
          validHost: request.host,
          originalRequest: request,
          ...answer(registry, listed, request),
        });
      });
      call.on("end", () => call.end());
    },
  };
  server.addService(ServerReflectionService, implementation);
  server.addService(v1alphaDefinition(), implementation);
}

/** The two versions differ only in the package's name. */
function v1alphaDefinition() {
  const method = ServerReflectionService.serverReflectionInfo;
  const path = method.path.replace(".v1.", ".v1alpha.");
  return { serverReflectionInfo: { ...method, path } };
}

function answer(registry: Registry, listed: readonly string[], request: ServerReflectionRequest): Answer {
  if (request.listServices !== undefined)
    return { listServicesResponse: { service: listed.map((name) => ({ name })) } };
  if (request.fileContainingSymbol !== undefined)
    return fileAnswer(fileOf(registry, request.fileContainingSymbol));
  if (request.fileByFilename !== undefined) {
    return fileAnswer(
      registry.getFile(request.fileByFilename.replace(/\.proto$/, "")) ??
        registry.getFile(request.fileByFilename),
    );
  }
  if (request.allExtensionNumbersOfType !== undefined) {
    return {
      allExtensionNumbersResponse: { baseTypeName: request.allExtensionNumbersOfType, extensionNumber: [] },
    };
  }
  return fileAnswer(undefined);
}

/** A symbol is a type or a service, or a member of one. */
function fileOf(registry: Registry, symbol: string): DescFile | undefined {
  const owner = symbol.slice(0, symbol.lastIndexOf("."));
  return (registry.get(symbol) ?? registry.get(owner))?.file;
}

function fileAnswer(file: DescFile | undefined): Answer {
  if (!file) return { errorResponse: { errorCode: status.NOT_FOUND, errorMessage: "not found" } };
  const files = [file, ...allDependencies(file)].map((each) =>
    toBinary(FileDescriptorProtoSchema, each.proto),
  );
  return { fileDescriptorResponse: { fileDescriptorProto: files.map((bytes) => Buffer.from(bytes)) } };
}

function allDependencies(file: DescFile): DescFile[] {
  return file.dependencies.flatMap((dependency) => [dependency, ...allDependencies(dependency)]);
}
