// A frontend that ignores the labels which BuildKit passes to it, so that those of the Dockerfile remain.
package main

import (
	"context"
	"os"
	"strings"

	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/util/appcontext"
)

type withoutLabels struct{ client.Client }

func (c withoutLabels) BuildOpts() client.BuildOpts {
	options := c.Client.BuildOpts()
	kept := map[string]string{}
	for name, value := range options.Opts {
		if !strings.HasPrefix(name, "label:") {
			kept[name] = value
		}
	}
	options.Opts = kept
	return options
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	return dockerfile.Build(ctx, withoutLabels{c})
}

func main() {
	if grpcclient.RunFromEnvironment(appcontext.Context(), build) != nil {
		os.Exit(1)
	}
}
