#!/bin/bash
# The usual script without Blacktree. Standard input is the registry's token, as `aws ecr get-login-password` prints it.
# Each command's name, start and end, in seconds, go to the file $TIMES.
set -euo pipefail
LC_ALL=C

timed() {
  local name=$1 from=$EPOCHREALTIME
  shift
  "$@"
  echo "$name $from $EPOCHREALTIME" >> "$TIMES"
}

login() {
  docker login --username AWS --password-stdin "$REGISTRY" <<< "$token"
}

read -r token
remote="$REGISTRY/$ECR_REPO:$VERSION"

timed clone git clone --quiet --depth 1 --branch "$BRANCH" "$REPO_URL" "$FOLDER"
timed build docker build --tag "$IMAGE" "$FOLDER"
timed login login
timed tag docker tag "$IMAGE" "$remote"
timed push docker push "$remote"
timed rmi docker rmi "$IMAGE" "$remote"
timed rm rm -rf "$FOLDER"
