package provider

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"
	v1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1"
	api "k8s.io/kubelet/pkg/apis/credentialprovider/v1"
	"k8s.io/utils/clock"

	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

// Tokens returns what plug-ins with tokenAttributes need from the API server.
type Tokens interface {
	// ServiceAccount returns a service account of the API server.
	ServiceAccount(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error)
	// Token returns a token for the pod's service account, bound to the pod; 0
	// seconds is the API server's default.
	Token(ctx context.Context, pod *v1.Pod, audience string, expirationSeconds int64) (string, error)
}

// Config says where the plug-ins are.
type Config struct {
	ConfigPath string // file or directory
	BinDir     string
	Tokens     Tokens                // nil: plug-ins with tokenAttributes are refused
	Clock      clock.PassiveClock    // nil is the real one
	Metrics    prometheus.Registerer // nil: calls are not counted
}

// Providers are all configured plug-ins, a keyring.Ring. Safe for concurrent use.
type Providers struct {
	list  []*provider
	clock clock.PassiveClock
}

// New reads the configuration and looks for the programs.
func New(c Config) (*Providers, error) {
	list, err := load(c.ConfigPath)
	if err != nil {
		return nil, fmt.Errorf("--image-credential-provider-config: %w", err)
	}
	if c.Clock == nil {
		c.Clock = clock.RealClock{}
	}
	calls, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	all := &Providers{clock: c.Clock}
	for _, p := range list {
		path, err := findProgram(c.BinDir, p.Name)
		if err != nil {
			return nil, fmt.Errorf("--image-credential-provider-bin-dir: %w", err)
		}
		if p.TokenAttributes != nil && c.Tokens == nil {
			return nil, fmt.Errorf("--image-credential-provider-config: plug-in %s: tokenAttributes asks for service-account tokens, which this node has not: they are from an API server", p.Name)
		}
		all.list = append(all.list, &provider{
			name: p.Name, match: p.MatchImages, cacheFor: p.DefaultCacheDuration.Duration, token: p.TokenAttributes, tokens: c.Tokens,
			plugin: &plugin{name: p.Name, path: path, apiVersion: p.APIVersion, args: p.Args, env: p.Env, timeout: callTimeout, metrics: calls},
			cache:  map[cacheKey]cached{},
		})
	}
	return all, nil
}

// Find implements keyring.Ring: the credentials of all plug-ins that match, those
// for longer patterns first, then in the order of the configuration.
func (a *Providers) Find(ctx context.Context, pod *v1.Pod, repository string) ([]keyring.Credential, error) {
	var x keyring.Index
	for _, p := range a.list {
		if !p.matches(repository) {
			continue
		}
		logins, from, err := p.provide(ctx, pod, repository, a.clock.Now)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			klog.ErrorS(err, "Credential provider failed, pulling without it", "plugin", p.name, "image", repository, "pod", klog.KObj(pod), "podUID", pod.UID)
			continue
		}
		x.Add(logins, from)
	}
	return x.Find(repository), nil
}

// provider is one plug-in and what it has answered.
type provider struct {
	name     string
	match    []string
	cacheFor time.Duration // where the answer does not say
	token    *kubeletconfig.ServiceAccountTokenAttributes
	tokens   Tokens
	plugin   *plugin
	flights  singleflight.Group

	mu    sync.Mutex
	cache map[cacheKey]cached
}

// cacheKey says what an answer is valid for: an image, a registry or everything,
// and for which service account (identity.key).
type cacheKey struct{ scope, account string }

type cached struct {
	logins  keyring.Logins
	expires time.Time
}

const everything = "<global>" // not a possible image name

func (p *provider) matches(repository string) bool {
	for _, pattern := range p.match {
		if keyring.Matches(pattern, repository) {
			return true
		}
	}
	return false
}

// provide returns the plug-in's logins, some of which may be for the repository,
// and their source. Calls for the same key share one run of the program, which
// continues when a caller leaves. Errors name the plug-in.
func (p *provider) provide(ctx context.Context, pod *v1.Pod, repository string, now func() time.Time) (keyring.Logins, keyring.Source, error) {
	who, ok, err := p.identify(ctx, pod)
	if err != nil || !ok {
		return nil, keyring.Source{}, err
	}
	scopes := [...]string{repository, registry(repository), everything}
	if logins, ok := p.remembered(scopes[:], who.key, now()); ok {
		return logins, who.source, nil
	}
	flight := p.flights.DoChan(repository+"\x00"+who.key+"\x00"+who.tokenHash, func() (any, error) {
		return p.plugin.call(context.WithoutCancel(ctx), api.CredentialProviderRequest{
			Image: repository, ServiceAccountToken: who.token, ServiceAccountAnnotations: who.annotations,
		})
	})
	var result singleflight.Result
	select {
	case result = <-flight:
	case <-ctx.Done():
		return nil, keyring.Source{}, context.Cause(ctx)
	}
	if result.Err != nil {
		return nil, keyring.Source{}, fmt.Errorf("credential provider plug-in %s: %w", p.name, result.Err)
	}
	response := result.Val.(*api.CredentialProviderResponse)
	logins := keyring.Logins{}
	for pattern, a := range response.Auth {
		if who.token != "" && a.Password == who.token && p.token.CacheType != kubeletconfig.TokenServiceAccountTokenCacheType {
			return nil, keyring.Source{}, fmt.Errorf("credential provider plug-in %s: it gave the service account's token back as the password, which needs cacheType %s", p.name, kubeletconfig.TokenServiceAccountTokenCacheType)
		}
		logins[pattern] = keyring.Login{Username: a.Username, Password: a.Password}
	}
	keep := p.cacheFor
	if response.CacheDuration != nil {
		keep = response.CacheDuration.Duration
	}
	if keep > 0 {
		scope := map[api.PluginCacheKeyType]string{
			api.ImagePluginCacheKeyType: scopes[0], api.RegistryPluginCacheKeyType: scopes[1], api.GlobalPluginCacheKeyType: scopes[2],
		}[response.CacheKeyType]
		p.remember(cacheKey{scope, who.key}, cached{logins, now().Add(keep)}, now())
	}
	return logins, who.source, nil
}

func registry(repository string) string {
	host, _, _ := strings.Cut(repository, "/")
	return host
}

func (p *provider) remembered(scopes []string, account string, now time.Time) (keyring.Logins, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, scope := range scopes {
		if c, ok := p.cache[cacheKey{scope, account}]; ok && now.Before(c.expires) {
			return c.logins, true
		}
	}
	return nil, false
}

// remember keeps an answer, and drops those that have expired.
func (p *provider) remember(k cacheKey, c cached, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, o := range p.cache {
		if !now.Before(o.expires) {
			delete(p.cache, other)
		}
	}
	p.cache[k] = c
}

// identity is the service account that a plug-in is called for; the zero value if
// for none.
type identity struct {
	key         string // equal for pods that may share answers
	token       string
	tokenHash   string
	annotations map[string]string
	source      keyring.Source
}

// identify finds the pod's service account. ok is false for a pod for which the
// plug-in must not be called.
func (p *provider) identify(ctx context.Context, pod *v1.Pod) (who identity, ok bool, err error) {
	name := pod.Spec.ServiceAccountName
	switch {
	case p.token == nil:
		return identity{}, true, nil
	case name == "":
		return identity{}, !*p.token.RequireServiceAccount, nil
	}
	account, err := p.tokens.ServiceAccount(ctx, pod.Namespace, name)
	if err != nil {
		return identity{}, false, fmt.Errorf("credential provider plug-in %s: failed to get service account: %w", p.name, err)
	}
	annotations, missing := pick(account.Annotations, p.token)
	if missing != "" {
		klog.V(5).InfoS("Credential provider is not asked: the service account lacks an annotation", "plugin", p.name, "pod", klog.KObj(pod), "podUID", pod.UID, "serviceAccount", name, "annotation", missing)
		return identity{}, false, nil
	}
	who = identity{annotations: annotations, source: keyring.Source{
		ServiceAccount: &keyring.Object{UID: string(account.UID), Namespace: pod.Namespace, Name: name},
	}}
	if who.token, err = p.tokens.Token(ctx, pod, p.token.ServiceAccountTokenAudience, 0); err == nil && who.token == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return identity{}, false, fmt.Errorf("credential provider plug-in %s: failed to get service account token: %w", p.name, err)
	}
	who.tokenHash = fmt.Sprintf("%x", sha256.Sum256([]byte(who.token)))
	parts := []any{account.UID, pod.Namespace, name, annotations}
	if p.token.CacheType == kubeletconfig.TokenServiceAccountTokenCacheType {
		parts = append(parts, who.tokenHash)
	}
	key, err := json.Marshal(parts) // which sorts maps
	if err != nil {
		return identity{}, false, err
	}
	who.key = string(key)
	return who, true, nil
}

// pick returns the annotations that a plug-in wants to see, or the first required
// one that is missing.
func pick(have map[string]string, want *kubeletconfig.ServiceAccountTokenAttributes) (picked map[string]string, missing string) {
	picked = map[string]string{}
	for _, key := range want.RequiredServiceAccountAnnotationKeys {
		value, ok := have[key]
		if !ok {
			return nil, key
		}
		picked[key] = value
	}
	for _, key := range want.OptionalServiceAccountAnnotationKeys {
		if value, ok := have[key]; ok {
			picked[key] = value
		}
	}
	return picked, ""
}
