// Package scripts holds no code: only the test of a rule that spans all
// packages, which of them may import which.
package scripts

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/berth-proxy/berth"

// allowed says what the code of a folder may import beyond the standard library: own packages by
// their folder, others by the beginning of their path. Tests may import more. A folder without a
// row has no business in the repository.
//
//	codec     RESP on byte slices; knows nothing of ours
//	router    pure decisions; never sees a socket
//	backend   connections to nodes; never sees a client
//	server    all of it
var allowed = map[string][]string{
	"codec":  {},
	"router": {"codec"},

	"backend/secure":   {gnet},
	"backend":          {"codec", "router", "backend/secure", xsys},
	"backend/pipe":     {"codec", "router", "backend", "backend/secure", gnet},
	"backend/feed":     {"codec", "router", "backend", "backend/secure", gnet},
	"backend/pool":     {"codec", "router", "backend", "backend/secure", netpoll, gopkg, xsys},
	"backend/nodes":    {"codec", "router", "backend"},
	"backend/replicas": {"codec", "router", "backend/nodes"},
	"backend/lane":     {"codec", "router", "backend", "backend/pipe", "backend/pool"},
	"backend/embedded": {"codec", "router", "backend", "backend/nodes", miniredis},

	"backend/redistest": {},
	"backend/looptest":  {"backend", gnet},

	"server": {"codec", "router", "backend", "backend/secure", "backend/pipe", "backend/feed", "backend/pool", "backend/nodes",
		"backend/lane", "backend/replicas", "backend/embedded", "server/glob", "server/build", "server/certs", "server/config",
		"server/telemetry", "server/topk", "server/near", "server/admin", "server/eventlog", gnet, gopkg, proxyproto, xsys},
	"server/glob":   {},
	"server/topk":   {},
	"server/near":   {"codec"},
	"server/build":  {},
	"server/certs":  {pkcs8},
	"server/config": {"router", "backend/nodes", "server/glob", "server/build", "server/certs"},
	"server/telemetry": {"codec", "router", "backend", "backend/pipe", "backend/feed", "backend/pool",
		"backend/nodes", "backend/lane", "server/build", metrics, xsys},
	"server/admin":    {"server/config", "server/build"},
	"server/eventlog": {"server/config"},

	"bench":   {"codec", "router", "backend", "backend/nodes", "backend/redistest"},
	"scripts": {},
}

// Each of these is imported where the rows above say, and nowhere else.
const (
	pkcs8      = "github.com/youmark/pkcs8"
	proxyproto = "github.com/pires/go-proxyproto"
	gnet       = "github.com/panjf2000/gnet/v2"
	netpoll    = "github.com/cloudwego/netpoll"
	gopkg      = "github.com/bytedance/gopkg"
	metrics    = "github.com/VictoriaMetrics/metrics"
	miniredis  = "github.com/alicebob/miniredis/v2"
	xsys       = "golang.org/x/sys"
)

// pure are the folders that never see a socket, and pureNet is what they may use of package net: it
// only joins and splits text.
var (
	pure    = []string{"codec", "router"}
	pureNet = []string{"JoinHostPort", "SplitHostPort"}
)

// testSupport are packages that only tests and what serves them may import.
var testSupport = []string{"testing", module + "/backend/redistest", module + "/backend/looptest"}

// violation returns why code in folder may not import path, or "".
func violation(folder, path string) string {
	rules, known := allowed[folder]
	if !known {
		return fmt.Sprintf("%s is no folder of the design", folder)
	}
	servesTests := slices.Contains([]string{"backend/redistest", "backend/looptest", "bench"}, folder)
	if slices.Contains(testSupport, path) && !servesTests {
		return fmt.Sprintf("%s imports %s, which is for tests", folder, path)
	}
	if slices.Contains(pure, folder) && strings.HasPrefix(path, "net/") {
		return fmt.Sprintf("%s imports %s and never sees a socket", folder, path)
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
		return "" // the standard library
	}
	for _, rule := range rules {
		if !strings.Contains(rule, ".") {
			if path == module+"/"+rule {
				return ""
			}
		} else if path == rule || strings.HasPrefix(path, rule+"/") {
			return ""
		}
	}
	return fmt.Sprintf("%s imports %s", folder, path)
}

// impurity returns why code in folder may not use the name of package net, or "".
func impurity(folder, name string) string {
	if !slices.Contains(pure, folder) || slices.Contains(pureNet, name) {
		return ""
	}
	return fmt.Sprintf("%s uses net.%s and never sees a socket", folder, name)
}

func TestPackagesImportOnlyWhatTheDesignAllows(t *testing.T) {
	root := ".."
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		whys, err := violations(path, filepath.ToSlash(folder))
		for _, why := range whys {
			t.Errorf("%s: %s", path, why)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("found no Go files to judge")
	}
}

// violations judges one file.
func violations(path, folder string) (whys []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if why := violation(folder, imported); why != "" {
			whys = append(whys, why)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if use, ok := n.(*ast.SelectorExpr); ok {
			if of, ok := use.X.(*ast.Ident); ok && of.Name == "net" {
				if why := impurity(folder, use.Sel.Name); why != "" {
					whys = append(whys, why)
				}
			}
		}
		return true
	})
	return whys, nil
}

func TestTopLevelFoldersAreThoseOfTheDesign(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if _, known := allowed[e.Name()]; !known {
			t.Errorf("%s is no folder of the design", e.Name())
		}
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	for _, test := range []struct {
		folder, path string
		allowed      bool
	}{
		{"codec", "bytes", true},
		{"codec", "net/http", false},
		{"codec", module + "/router", false},
		{"router", module + "/codec", true},
		{"router", module + "/backend", false},
		{"router", "net/netip", false},
		{"router", "github.com/panjf2000/gnet/v2", false},
		{"backend", module + "/router", true},
		{"backend", module + "/server", false},
		{"backend/pipe", gnet + "/pkg/logging", true},
		{"backend/pipe", "github.com/panjf2000/gnet", false},
		{"backend/pool", gnet, false},
		{"backend/pool", netpoll, true},
		{"backend/pipe", netpoll, false},
		{"backend/nodes", miniredis, false},
		{"backend/pool", module + "/backend/pipe", false},
		{"server/config", module + "/codec", false},
		{"backend", "github.com/redis/go-redis/v9", false},
		{"backend", "testing", false},
		{"backend/redistest", "testing", true},
		{"backend/redistest", module + "/codec", false},
		{"server", module + "/backend", true},
		{"server", module + "/backend/redistest", false},
		{"bench", module + "/backend/redistest", true},
		{"util", "fmt", false},
	} {
		if why := violation(test.folder, test.path); (why == "") != test.allowed {
			t.Errorf("%s imports %s: %q", test.folder, test.path, why)
		}
	}
}

func TestSocketsInPurePackagesAreFound(t *testing.T) {
	for _, test := range []struct {
		folder, name string
		allowed      bool
	}{
		{"router", "JoinHostPort", true},
		{"router", "Dial", false},
		{"codec", "Conn", false},
		{"backend", "Dial", true},
	} {
		if why := impurity(test.folder, test.name); (why == "") != test.allowed {
			t.Errorf("%s uses net.%s: %q", test.folder, test.name, why)
		}
	}
	source := filepath.Join(t.TempDir(), "x.go")
	if err := os.WriteFile(source, []byte("package x\nimport \"net\"\nvar Dial = net.Dial\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if whys, err := violations(source, "router"); err != nil || len(whys) != 1 {
		t.Errorf("%v, %v", whys, err)
	}
}
