package server

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/klog/v2"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// AuthConfig says who may use the kubelet API: KubeletConfiguration's
// authentication and authorization, defaults filled in.
type AuthConfig struct {
	Authentication kubeletconfig.KubeletAuthentication
	Authorization  kubeletconfig.KubeletAuthorization
}

// Auth decides about requests to the kubelet API. Its fields go into APIConfig.
type Auth struct {
	Authenticator authenticator.Request
	Authorizer    authorizer.Authorizer
	// ClientCA is the current bundle that client certificates are verified with; nil
	// without a client CA file.
	ClientCA dynamiccertificates.CAContentProvider
	// Advice is for who is known and allowed nothing, because nobody can be asked.
	Advice string

	reload *dynamiccertificates.DynamicFileCAContent
}

// reviewTimeout bounds a TokenReview.
const reviewTimeout = 10 * time.Second

// NewAuth builds authentication and authorization as configured: client
// certificates, then bearer tokens, then anonymous if that is on. Without a client
// (a node that has no API server) nobody can be asked about tokens and users: every
// token is rejected, and mode Webhook allows nothing.
func NewAuth(client kubernetes.Interface, cfg AuthConfig) (*Auth, error) {
	a := &Auth{}
	if file := cfg.Authentication.X509.ClientCAFile; file != "" {
		ca, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca-bundle", file)
		if err != nil {
			return nil, fmt.Errorf("load client CA file: %w", err)
		}
		a.ClientCA, a.reload = ca, ca
	}
	var err error
	if a.Authenticator, err = newAuthenticator(client, cfg.Authentication, a.ClientCA); err != nil {
		return nil, fmt.Errorf("set up authentication: %w", err)
	}
	if a.Authorizer, err = newAuthorizer(client, cfg.Authorization); err != nil {
		return nil, fmt.Errorf("set up authorization: %w", err)
	}
	if client == nil && cfg.Authorization.Mode == kubeletconfig.KubeletAuthorizationModeWebhook {
		a.Advice = adviceAlone
	}
	return a, nil
}

// Run reloads the client CA when its file changes, until ctx ends.
func (a *Auth) Run(ctx context.Context) error {
	if a.reload == nil {
		<-ctx.Done()
		return nil
	}
	a.reload.Run(ctx, 1)
	return nil
}

func newAuthenticator(client kubernetes.Interface, cfg kubeletconfig.KubeletAuthentication, ca dynamiccertificates.CAContentProvider) (authenticator.Request, error) {
	anonymous := cfg.Anonymous.Enabled != nil && *cfg.Anonymous.Enabled
	c := authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: anonymous},
		CacheTTL:                           cfg.Webhook.CacheTTL.Duration,
		ClientCertificateCAContentProvider: ca,
	}
	if cfg.Webhook.Enabled != nil && *cfg.Webhook.Enabled && client != nil {
		c.TokenAccessReviewClient = client.AuthenticationV1()
		c.TokenAccessReviewTimeout = reviewTimeout
		c.WebhookRetryBackoff = retryBackOff()
	}
	if ca == nil && c.TokenAccessReviewClient == nil && !anonymous {
		klog.InfoS("Nobody can use the kubelet API: neither a client CA file, nor bearer tokens with an API server, nor anonymous requests are configured")
		return authenticator.RequestFunc(func(*http.Request) (*authenticator.Response, bool, error) { return nil, false, nil }), nil
	}
	request, _, err := c.New()
	return request, err
}

func newAuthorizer(client kubernetes.Interface, cfg kubeletconfig.KubeletAuthorization) (authorizer.Authorizer, error) {
	switch cfg.Mode {
	case kubeletconfig.KubeletAuthorizationModeAlwaysAllow:
		return authorizerfactory.NewAlwaysAllowAuthorizer(), nil
	case kubeletconfig.KubeletAuthorizationModeWebhook:
		if client == nil {
			return authorizer.AuthorizerFunc(func(context.Context, authorizer.Attributes) (authorizer.Decision, string, error) {
				return authorizer.DecisionNoOpinion, "there is no API server to ask", nil
			}), nil
		}
		return authorizerfactory.DelegatingAuthorizerConfig{
			SubjectAccessReviewClient: client.AuthorizationV1(),
			AllowCacheTTL:             cfg.Webhook.CacheAuthorizedTTL.Duration,
			DenyCacheTTL:              cfg.Webhook.CacheUnauthorizedTTL.Duration,
			WebhookRetryBackoff:       retryBackOff(),
		}.New()
	}
	return nil, fmt.Errorf("unknown mode %q", cfg.Mode)
}

// retryBackOff is the one that k8s.io/apiserver's own servers use. Importing it
// from there would pull in a whole API server.
func retryBackOff() *wait.Backoff {
	return &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
}
