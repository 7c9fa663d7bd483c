package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// floors are the families of this package's files, the highest first. A file belongs to the first
// family one of whose prefixes its name begins with. It may use names of its own family and of
// those below.
var floors = []struct {
	name     string
	prefixes []string
}{
	{"process", []string{"main.", "server.", "gnet.", "listen", "move.", "notify.", "stop."}},
	{"look", []string{"look"}},
	{"command", []string{"command"}},
	{"dispatch", []string{"dispatch"}},
	{"way", []string{"way_"}},
	{"session", []string{"session"}},
	{"loop", []string{"loop"}},
}

// everywhere are names of the process that all families are built around.
var everywhere = []string{"server", "server.config", "server.table", "server.limits", "server.redisVersion"}

var updateFloors = flag.Bool("update-floors", false, "write testdata/floors.txt instead of checking it")

// TestFamiliesUseWhatIsBelowThem holds what floors say. Names that are used from below their own
// floor are listed in testdata/floors.txt. Add one only if there is no way around it; take those
// out that are used no more.
func TestFamiliesUseWhatIsBelowThem(t *testing.T) {
	parallel(t)
	const list = "testdata/floors.txt"
	got := upwardNames(t)
	if *updateFloors {
		if err := os.WriteFile(list, []byte(strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Split(strings.TrimSpace(string(data)), "\n")
	for _, name := range got {
		if !slices.Contains(want, name) {
			t.Errorf("%s: used from a lower floor", name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) {
			t.Errorf("%s: listed in %s, and used from no lower floor any more", name, list)
		}
	}
}

func floorOf(t *testing.T, file string) int {
	t.Helper()
	for i, f := range floors {
		for _, prefix := range f.prefixes {
			if strings.HasPrefix(file, prefix) {
				return i
			}
		}
	}
	t.Errorf("%s: its name begins with no family", file)
	return 0
}

// upwardNames lists "user family → name's family: name" for names of the package that are used from
// a lower floor.
func upwardNames(t *testing.T) []string {
	t.Helper()
	fset := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, path := range paths {
		built, err := build.Default.MatchFile(".", path)
		if err != nil {
			t.Fatal(err)
		}
		if !built || strings.HasSuffix(path, "_test.go") || path == "doc.go" {
			continue
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	exports := exportData(t)
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	pkg, err := conf.Check("server", fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	members := membersOf(pkg)
	var found []string
	for id, o := range info.Uses {
		if f, ok := o.(*types.Func); ok {
			o = f.Origin()
		}
		name, known := members[o]
		if !known || slices.Contains(everywhere, name) {
			continue
		}
		user := floorOf(t, filepath.Base(fset.Position(id.Pos()).Filename))
		owner := floorOf(t, filepath.Base(fset.Position(o.Pos()).Filename))
		if owner < user {
			line := fmt.Sprintf("%s → %s: %s", floors[user].name, floors[owner].name, name)
			if !slices.Contains(found, line) {
				found = append(found, line)
			}
		}
	}
	slices.Sort(found)
	return found
}

// membersOf names the package's own declarations and the methods of its types. Fields count as
// their struct.
func membersOf(pkg *types.Package) map[types.Object]string {
	members := map[types.Object]string{}
	for _, name := range pkg.Scope().Names() {
		o := pkg.Scope().Lookup(name)
		members[o] = name
		typeName, ok := o.(*types.TypeName)
		if !ok {
			continue
		}
		if named, ok := typeName.Type().(*types.Named); ok {
			for i := range named.NumMethods() {
				members[named.Method(i)] = name + "." + named.Method(i).Name()
			}
		}
	}
	return members
}

// exportData finds the compiled packages that this one imports.
func exportData(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Export", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	exports := map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct{ ImportPath, Export string }
		if err := decoder.Decode(&p); err == io.EOF {
			return exports
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
	}
}
