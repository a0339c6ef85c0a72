package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	kjson "sigs.k8s.io/json"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/program"
)

const (
	callTimeout = time.Minute      // of one call, the kubelet's
	maxOutput   = 10 * 1024 * 1024 // bytes
	maxComplain = 1024             // bytes of standard error in an error
)

// plugin is a program that provides credentials.
type plugin struct {
	name, path, apiVersion string
	args                   []string
	env                    []kubeletconfig.ExecEnvVar
	timeout                time.Duration
	metrics                metrics
}

// call runs the program once and counts that.
func (p *plugin) call(ctx context.Context, r api.CredentialProviderRequest) (*api.CredentialProviderResponse, error) {
	began := time.Now()
	answer, err := p.ask(ctx, r)
	p.metrics.called(p.name, time.Since(began), err)
	return answer, err
}

// ask's errors contain nothing of the answer, and only the beginning of standard error.
func (p *plugin) ask(ctx context.Context, r api.CredentialProviderRequest) (*api.CredentialProviderResponse, error) {
	r.TypeMeta = metav1.TypeMeta{Kind: "CredentialProviderRequest", APIVersion: p.apiVersion}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("no answer within %v", p.timeout))
	defer cancel()
	env := os.Environ()
	for _, e := range p.env {
		env = append(env, e.Name+"="+e.Value) // overrides the agent's own
	}
	own := program.Program{Path: p.path, Args: p.args, Env: env, Stdin: request, MaxOutput: maxOutput}
	answer, complaint, err := own.Run(ctx)
	if err != nil {
		text := strings.TrimSpace(string(complaint))
		if text == "" {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", err, bounds.Cut(text, maxComplain))
	}
	return p.read(answer)
}

// read decodes an answer. The cause of an error is left out: it may be a secret.
func (p *plugin) read(answer []byte) (*api.CredentialProviderResponse, error) {
	var meta metav1.TypeMeta
	if err := json.Unmarshal(answer, &meta); err != nil {
		return nil, errors.New("its answer is not JSON")
	}
	if meta.Kind != "CredentialProviderResponse" || meta.APIVersion != p.apiVersion {
		return nil, fmt.Errorf("its answer is a %q of %q, want a CredentialProviderResponse of %s", meta.Kind, meta.APIVersion, p.apiVersion)
	}
	var r api.CredentialProviderResponse
	if strict, err := kjson.UnmarshalStrict(answer, &r); err != nil || len(strict) > 0 {
		return nil, errors.New("its answer has unknown fields or values of a wrong type")
	}
	switch r.CacheKeyType {
	case api.ImagePluginCacheKeyType, api.RegistryPluginCacheKeyType, api.GlobalPluginCacheKeyType:
		return &r, nil
	}
	return nil, fmt.Errorf("its answer has cacheKeyType %q, want Image, Registry or Global", r.CacheKeyType)
}
