package keyring

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strings"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Credential is a login with which a registry may allow a pull.
type Credential struct {
	Auth *cri.AuthConfig
	// Hash is equal for equal credentials. It is computed as in the kubelet, so that
	// the kubelet's records of pulls are understood.
	Hash string
	Source
}

// Source says who may use a credential: the pods that refer to the Secret, those of
// the service account, or, if both are nil, every pod of the node.
type Source struct {
	Secret         *Object
	ServiceAccount *Object
}

// Object is the identity of an object of the API server.
type Object struct{ UID, Namespace, Name string }

// Logins are the entries of a Docker configuration ("auths") by registry.
type Logins map[string]Login

// Login is one entry of a Docker configuration.
type Login struct {
	Username, Password, Email string
	IdentityToken             string // which the registry exchanges for tokens
}

// errUnreadable does not say what was read: that may be a secret.
var errUnreadable = errors.New("not a readable Docker configuration")

// ParseConfigJSON reads Docker's config.json.
func ParseConfigJSON(data []byte) (Logins, error) {
	var file struct {
		Auths Logins `json:"auths"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, errUnreadable
	}
	return file.Auths, nil
}

// ParseDockercfg reads a .dockercfg, Docker's older file.
func ParseDockercfg(data []byte) (Logins, error) {
	var logins Logins
	if err := json.Unmarshal(data, &logins); err != nil {
		return nil, errUnreadable
	}
	return logins, nil
}

// UnmarshalJSON implements json.Unmarshaler. "auth", base64 of user:password,
// overrides the separate fields.
func (l *Login) UnmarshalJSON(data []byte) error {
	var raw struct {
		Username, Password, Email, Auth, IdentityToken string
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return errUnreadable
	}
	*l = Login{raw.Username, raw.Password, raw.Email, raw.IdentityToken}
	if raw.Auth == "" {
		return nil
	}
	encoding := base64.RawStdEncoding
	if strings.HasSuffix(strings.TrimSpace(raw.Auth), "=") {
		encoding = base64.StdEncoding
	}
	plain, err := encoding.DecodeString(raw.Auth)
	if err != nil {
		return errUnreadable
	}
	var ok bool
	if l.Username, l.Password, ok = strings.Cut(string(plain), ":"); !ok {
		return errUnreadable
	}
	return nil
}

// empty reports whether this is an entry that one of Docker's credential helpers
// would fill in; pulling with it is pulling without credentials.
func (l Login) empty() bool { return l.Username == "" && l.Password == "" && l.IdentityToken == "" }

func (l Login) credential(from Source) Credential {
	return Credential{
		Auth:   &cri.AuthConfig{Username: l.Username, Password: l.Password, IdentityToken: l.IdentityToken},
		Hash:   l.hash(),
		Source: from,
	}
}

func (l Login) hash() string {
	// Names, order and omission are the kubelet's.
	text, err := json.Marshal(struct {
		Username      string `json:"username,omitempty"`
		Password      string `json:"password,omitempty"`
		Email         string `json:"email,omitempty"`
		IdentityToken string `json:"identitytoken,omitempty"`
	}{l.Username, l.Password, l.Email, l.IdentityToken})
	if err != nil {
		return "" // never equal to any credential
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
