package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletconfig "k8s.io/kubelet/config/v1"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	kjson "sigs.k8s.io/json"
)

const (
	callTimeout = time.Minute      // of one call, the kubelet's
	killWait    = time.Second      // for output that a grandchild keeps open
	maxOutput   = 10 * 1024 * 1024 // bytes
	maxComplain = 1024             // bytes of standard error in an error
)

// plugin is a program that provides credentials.
type plugin struct {
	name, path, apiVersion string
	args                   []string
	env                    []kubeletconfig.ExecEnvVar
	timeout                time.Duration
}

// call runs the program once. Its errors contain nothing of the answer, and only
// the beginning of standard error.
func (p *plugin) call(ctx context.Context, r api.CredentialProviderRequest) (*api.CredentialProviderResponse, error) {
	r.TypeMeta = metav1.TypeMeta{Kind: "CredentialProviderRequest", APIVersion: p.apiVersion}
	request, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("no answer within %v", p.timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, p.path, p.args...)
	cmd.Env = os.Environ()
	for _, e := range p.env {
		cmd.Env = append(cmd.Env, e.Name+"="+e.Value) // overrides the agent's own
	}
	// The program may have started others: kill the whole group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = killWait
	answer, complaint := limited{most: maxOutput}, limited{most: maxOutput}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), &answer, &complaint
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		text := strings.TrimSpace(complaint.buffer.String())
		if text == "" {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %s", err, text[:min(len(text), maxComplain)])
	}
	return p.read(answer.buffer.Bytes())
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

// limited is a buffer that fails when it is full, which ends the writer. It does
// not embed the buffer, whose other methods know no limit.
type limited struct {
	buffer bytes.Buffer
	most   int
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	if l.buffer.Len()+len(p) > l.most {
		return 0, fmt.Errorf("more than %d bytes of output", l.most)
	}
	return l.buffer.Write(p)
}
