package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/server/build"
)

const usage = `Usage: berth [BACKEND-URL] [CONFIG-FILE] [--option value ...]
       berth -t [CONFIG-FILE] [--option value ...]    test the configuration, report every mistake
       berth --healthcheck [CONFIG-FILE] [--option value ...]    ask the admin endpoint whether berth is ready
       berth --take-over [BACKEND-URL] [CONFIG-FILE] [--option value ...]    replace a running berth (take-over-socket)
       berth --help | --version

BACKEND-URL   redis://host:6379[/db]   redis://a:7001,b:7002 (Redis Cluster)   unix:///path
              sentinel://a:26379,b:26379/name[/db] (the primary that Sentinels watch under that name)
              without one berth serves an embedded try-out backend
Options come from the file, then from the environment (maxclients is BERTH_MAXCLIENTS), then from the flags.

`

// commandLine is the arguments of the process, by kind.
type commandLine struct {
	test, help, version bool
	healthCheck         bool
	takeOver            bool
	file                string
	flags               []givenFlag
}

type givenFlag struct {
	where  string  // in a mistake
	name   string  // as it was written
	option *option // nil: no option has this name
	words  []string
}

// Read makes Settings of args (without the program's name), environ (as os.Environ returns it) and
// the configuration file. s is nil when berth should end at once with the exit code: after --help,
// --version or -t, or because of mistakes. Read writes every mistake to stderr.
func Read(args, environ []string, stdout, stderr io.Writer) (s *Settings, exit int) {
	l := newLoader()
	line := l.readCommandLine(args)
	switch {
	case line.help:
		io.WriteString(stdout, usage+optionsHelp())
		return nil, 0
	case line.version:
		fmt.Fprintln(stdout, versionLine())
		return nil, 0
	}
	l.passed = slices.Contains(environ, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	l.load(line, environ)
	l.contradictions()
	l.exposedPasswords()
	if line.test {
		l.probe()
	}
	for _, w := range l.warnings {
		if line.test || len(l.mistakes) > 0 {
			fmt.Fprintln(stderr, "warning: "+w)
		}
	}
	if n := len(l.mistakes); n > 0 {
		for _, m := range l.mistakes {
			fmt.Fprintln(stderr, m.Error())
		}
		fmt.Fprintf(stderr, "berth: %s in the configuration\n", counted(n, "mistake"))
		return nil, 1
	}
	if line.test {
		fmt.Fprintln(stdout, "berth: the configuration is valid")
		return nil, 0
	}
	s = &Settings{path: l.path, warnings: l.warnings, asksHealth: line.healthCheck, takesOver: line.takeOver, again: func() *loader {
		again := newLoader()
		again.load(line, environ)
		return again
	}}
	s.now.Store(l.config)
	return s, 0
}

// A loader makes a Config from all sources and collects their mistakes.
type loader struct {
	config   *Config
	path     string             // absolute path of the configuration file
	sources  map[*option]string // where the value of each option came from
	given    map[*option]bool   // by the source that is being read
	passed   bool               // systemd passes sockets to this process: sd_listen_fds(3)
	mistakes []mistake
	warnings []string
}

func newLoader() *loader {
	return &loader{config: defaultConfig(), sources: map[*option]string{}, given: map[*option]bool{}}
}

func (l *loader) wrong(where, why string) { l.mistakes = append(l.mistakes, mistake{where, why}) }

// set takes the value of one option from one source.
func (l *loader) set(where string, o *option, words []string) {
	take := o.setWords
	if l.given[o] {
		take = o.addWords
	}
	if err := take(l.config, words); err != nil {
		l.wrong(where, explain(o, words, err))
		return
	}
	l.sources[o], l.given[o] = where, true
}

// load applies file, environment and flags, in this order.
func (l *loader) load(line commandLine, environ []string) {
	if line.file != "" {
		l.loadFile(line.file)
	}
	l.given = map[*option]bool{}
	l.loadEnvironment(environ)
	l.given = map[*option]bool{}
	for _, f := range line.flags {
		l.set(f.where, f.option, f.words)
	}
	if err := l.config.readPassword(); err != nil {
		l.wrong(l.source(passwordFile), passwordFile+": "+err.Error())
	}
	if line.takeOver && l.config.TakeOverSocket == "" {
		l.wrong("flag --take-over", "it needs the take-over-socket of the running berth")
	}
}

// passwordFile is the option whose value is a file's content.
const passwordFile = "backend-password-file"

// readPassword reads the file of the backend's password, if there is one.
func (c *Config) readPassword() (err error) {
	c.FilePassword = ""
	if c.BackendPasswordFile != "" {
		c.FilePassword, err = readPasswordFile(c.BackendPasswordFile)
	}
	return err
}

// exposedPasswords warns of passwords on the command line. berth trusts the users of its machine
// with none.
func (l *loader) exposedPasswords() {
	for _, p := range []struct {
		option string
		given  bool
	}{{"backend", l.config.Backend.Password != ""}, {"backend-password", l.config.BackendPassword != ""}} {
		where := l.sources[findOption(p.option)]
		if p.given && (where == "argument" || strings.HasPrefix(where, "flag ")) {
			l.warnings = append(l.warnings, where+": other users of this machine see the password on the command line; "+
				"give it as BERTH_BACKEND_PASSWORD or in backend-password-file")
		}
	}
}

func (l *loader) loadFile(path string) {
	text, err := readConfigFile(path)
	if err == nil {
		l.path, err = filepath.Abs(path)
	}
	if err != nil {
		l.wrong("configuration file", fileProblem(path, err))
		return
	}
	parseConfigFile(text).apply(l, path)
}

// fileProblem says why a configuration file cannot be read. The path may be a mistyped URL.
func fileProblem(path string, err error) string {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	why := quoteOpen(path) + ": " + err.Error()
	if errors.Is(err, os.ErrNotExist) {
		why += "; a backend is named by its URL, as in redis://host:6379"
	}
	return why
}

// loadEnvironment reads the variables that name options. Other variables that begin with BERTH_
// cause a warning only: Kubernetes makes such names (BERTH_SERVICE_HOST,
// BERTH_PORT=tcp://10.0.0.1:7379) for a service called berth, and they must not keep berth from
// starting.
func (l *loader) loadEnvironment(environ []string) {
	byEnv := map[string]*option{}
	for _, o := range options {
		byEnv[o.env()] = o
	}
	for _, pair := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(pair, "=")
		o := byEnv[name]
		switch {
		case !strings.HasPrefix(name, "BERTH_"):
		case o == nil:
			l.warnings = append(l.warnings, "environment variable "+name+" is no option of berth")
		case name == "BERTH_PORT" && strings.HasPrefix(text, "tcp://"):
			l.warnings = append(l.warnings, "environment variable BERTH_PORT is a Kubernetes service link, not a port; not used")
		default:
			words, err := o.words(text)
			if err != nil {
				l.wrong("environment "+name, explain(o, []string{text}, err))
				continue
			}
			l.set("environment "+name, o, words)
		}
	}
}

// source returns, for a mistake, where the value of an option came from: of the first of these
// options that was set.
func (l *loader) source(names ...string) string {
	for _, name := range names {
		if where := l.sources[findOption(name)]; where != "" {
			return where
		}
	}
	return "default of " + names[0]
}

// readCommandLine reads the arguments as redis-server does: first the file (or here the backend),
// then "--name value ...". It also reads "--name=value".
func (l *loader) readCommandLine(args []string) commandLine {
	var line commandLine
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "-t":
			line.test = true
		case arg == "-h" || arg == "--help":
			line.help = true
		case arg == "-v" || arg == "--version":
			line.version = true
		case arg == "--healthcheck":
			line.healthCheck = true
		case arg == "--take-over":
			line.takeOver = true
		case strings.HasPrefix(arg, "--"):
			f, rest := readFlag(arg, args)
			args = rest
			if f.option == nil {
				l.wrong("flag --"+quoteOpen(f.name), unknownOption(f.name).Error())
				continue
			}
			line.flags = append(line.flags, f)
		case strings.Contains(arg, "://"):
			line.flags = append(line.flags, givenFlag{"argument", "backend", findOption("backend"), []string{arg}})
		case strings.HasPrefix(arg, "-"):
			l.wrong("argument "+quoteOpen(arg), "unknown; options begin with two dashes, berth --help lists them")
		case line.file != "":
			l.wrong("argument "+quoteOpen(arg), "there is a configuration file already: "+quoteOpen(line.file))
		default:
			line.file = arg
		}
	}
	return line
}

// readFlag reads "--name" and the words that belong to it.
func readFlag(arg string, args []string) (f givenFlag, rest []string) {
	name, text, joined := strings.Cut(arg[2:], "=")
	f = givenFlag{where: "flag --" + name, name: name, option: findOption(name)}
	if joined {
		f.words = []string{text}
		if f.option != nil && f.option.value.many() {
			f.words = strings.Fields(text)
		}
		return f, args
	}
	for len(args) > 0 && !strings.HasPrefix(args[0], "--") {
		// redis-server would take every word here. In berth the backend may also come last, so a
		// flag of one word takes one word, and a flag of several words takes no URL.
		many := f.option != nil && f.option.value.many()
		if !many && len(f.words) == 1 || many && strings.Contains(args[0], "://") {
			break
		}
		f.words = append(f.words, args[0])
		args = args[1:]
	}
	return f, args
}

// contradictions finds the mistakes that only all values together show.
func (l *loader) contradictions() {
	c := l.config
	doors, err := c.Doors()
	if len(doors) == 0 && err == nil && !l.passed {
		l.wrong(l.source("port"), "there is nothing to listen on; set bind and port or tls-port, or unixsocket, or listen")
	}
	for _, port := range []int{c.Port, c.TLSPort} {
		if port != 0 && c.AdminPort == port && overlap(c.Bind, c.AdminBind) {
			l.wrong(l.source("admin-port", "port"), fmt.Sprintf("admin-port %d is the clients' port already; choose another", port))
		}
	}
	for _, d := range c.Listen {
		if d.port != 0 && d.port == c.AdminPort && overlap([]string{d.host}, c.AdminBind) {
			l.wrong(l.source("listen"), fmt.Sprintf("%s is the address of admin-port already; choose another", d.Addr))
		}
	}
	if c.TLSPort != 0 && c.TLSPort == c.Port {
		l.wrong(l.source("tls-port"), fmt.Sprintf("tls-port %d is the port of plain clients already; choose another, or set port to 0", c.TLSPort))
	} else if err != nil {
		l.wrong(l.source("listen", "bind"), err.Error())
	}
	if slices.ContainsFunc(doors, Door.SpeaksTLS) {
		if _, err := c.TLSFiles().Load(); err != nil {
			l.wrong("TLS to clients", err.Error())
		}
	}
	if c.Backend.TLS {
		if _, err := c.BackendTLSFiles().Load(); err != nil {
			l.wrong("TLS to nodes", err.Error())
		}
		if c.BackendTLSSkipVerify {
			l.warnings = append(l.warnings, "backend-tls-insecure-skip-verify: berth takes whoever answers for the node, and tells him passwords")
		}
	}
	c.checkBackend(func(why string, names ...string) { l.wrong(l.source(names...), why) })
}

// checkBackend finds the mistakes in who berth is at the nodes. wrong is told each, and the options that it
// may be in.
func (c *Config) checkBackend(wrong func(why string, names ...string)) {
	given := 0
	for _, p := range []Secret{Secret(c.Backend.Password), c.BackendPassword, Secret(c.BackendPasswordFile)} {
		if p != "" {
			given++
		}
	}
	if given > 1 {
		wrong("the password is given more than once; leave it in one place of backend's URL, backend-password (BERTH_BACKEND_PASSWORD) and backend-password-file", "backend-password", passwordFile)
	}
	if c.BackendUser != "" && c.Backend.User != "" && c.BackendUser != c.Backend.User {
		wrong("backend-user is not the user that backend's URL names; leave one of them out", "backend-user")
	}
	if c.Target().User != "" && given == 0 { // the user may be a password after a forgotten colon
		wrong("there is no password for the backend's user; give it as BERTH_BACKEND_PASSWORD or in backend-password-file", "backend-user", "backend")
	}
}

// CheckBackend returns the first mistake in who berth is at the nodes.
func (c *Config) CheckBackend() (err error) {
	c.checkBackend(func(why string, _ ...string) {
		if err == nil {
			err = errors.New(why)
		}
	})
	return err
}

// overlap reports whether two bind options share an address.
func overlap(a, b []string) bool {
	for _, x := range a {
		hostA, _ := bindHost(x)
		for _, y := range b {
			hostB, _ := bindHost(y)
			if hostA == hostB || hostA == "0.0.0.0" || hostB == "0.0.0.0" || hostA == "::" || hostB == "::" {
				return true
			}
		}
	}
	return false
}

// readPasswordFile reads a password from a file, without the line end that editors add.
func readPasswordFile(path string) (Secret, error) {
	text, err := readConfigFile(path)
	if err != nil {
		return "", err
	}
	password := strings.TrimRight(text, "\r\n")
	if password == "" {
		return "", fmt.Errorf("%s is empty; it must hold the password", path)
	}
	return Secret(password), nil
}

// optionsHelp lists the options for --help.
func optionsHelp() string {
	var b strings.Builder
	for _, o := range options {
		fmt.Fprintf(&b, "  --%s %s (%s)\n      %s\n", o.name, o.def, o.value.unit(), strings.ReplaceAll(o.help, "`", ""))
	}
	return b.String()
}

func versionLine() string {
	if rev := build.Revision(); rev != "" {
		return "berth " + build.Version + " (" + rev + ", " + build.Date() + ")"
	}
	return "berth " + build.Version
}

// counted returns "1 mistake", "2 mistakes".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
