//go:build linux

package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The charts of the HTML report, as SVG: bars and lines.

// palette holds colours that colour-blind people can distinguish (Okabe and Ito, "Color Universal
// Design").
var palette = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a7a00", "#999999"}

// colour returns the colour of an endpoint, which is the same in every report for the known ones.
func colour(endpoint string, others []string) string {
	known := map[string]int{"berth": 0, "nutcracker": 1, "haproxy": 2, "direct": 7}
	if i, found := known[endpoint]; found {
		return palette[i]
	}
	for i, name := range others {
		if name == endpoint {
			return palette[3+i%4]
		}
	}
	return palette[6]
}

// bar is one bar of a bar chart.
type bar struct {
	label, colour string
	value         spread
}

// bars draws a chart of horizontal bars that begin at 0, each with a whisker from the lowest to the
// highest round. It omits bars without a value.
func bars(title string, show func(float64) string, all []bar) string {
	const left, wide, line, right = 84, 190, 22, 74
	top := 0.0
	var known []bar
	for _, b := range all {
		if !math.IsNaN(b.value.median) {
			known = append(known, b)
			top = max(top, b.value.high)
		}
	}
	if top == 0 {
		top = 1
	}
	var out strings.Builder
	height := 24 + line*len(known)
	fmt.Fprintf(&out, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		left+wide+right, height, left+wide+right, height, html.EscapeString(title))
	fmt.Fprintf(&out, `<text x="0" y="13" class="title">%s</text>`, html.EscapeString(title))
	for i, b := range known {
		y := 24 + line*i
		x := func(v float64) float64 { return left + v/top*wide }
		fmt.Fprintf(&out, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-6, y+12, html.EscapeString(b.label))
		fmt.Fprintf(&out, `<rect x="%d" y="%d" width="%.1f" height="14" fill="%s"><title>%s</title></rect>`,
			left, y+1, x(b.value.median)-left, b.colour, html.EscapeString(spreadText(b.value, show)))
		if b.value.low < b.value.high {
			fmt.Fprintf(&out, `<path d="M%.1f %dV%dM%.1f %dH%.1fM%.1f %dV%d" class="whisker"/>`,
				x(b.value.low), y+4, y+12, x(b.value.low), y+8, x(b.value.high), x(b.value.high), y+4, y+12)
		}
		fmt.Fprintf(&out, `<text x="%.1f" y="%d">%s</text>`, x(b.value.high)+5, y+12, html.EscapeString(show(b.value.median)))
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// point is a point of a curve.
type point struct{ x, y float64 }

// curve is one line of a line chart.
type curve struct {
	label, colour string
	points        []point
}

// mark is a labelled position on an axis.
type mark struct {
	at    float64
	label string
}

// lines draws a chart of curves. x is between 0 and 1, with labels at the marks. The labels of y
// are powers of ten if the axis is logarithmic, otherwise steps that begin at 0.
func lines(title string, marks []mark, logarithmic bool, show func(float64) string, curves []curve) string {
	const left, wide, top, high, bottom, right = 58, 330, 24, 170, 36, 96
	lo, hi, ticks := axis(logarithmic, curves)
	if len(ticks) == 0 {
		return ""
	}
	scale := func(v float64) float64 { return v }
	if logarithmic {
		scale = func(v float64) float64 { return math.Log10(max(v, lo)) }
	}
	x := func(v float64) float64 { return left + v*wide }
	y := func(v float64) float64 { return top + high - (scale(v)-scale(lo))/(scale(hi)-scale(lo))*high }
	var out strings.Builder
	fmt.Fprintf(&out, `<svg viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">`,
		left+wide+right, top+high+bottom, left+wide+right, top+high+bottom, html.EscapeString(title))
	fmt.Fprintf(&out, `<text x="0" y="13" class="title">%s</text>`, html.EscapeString(title))
	for _, v := range ticks {
		fmt.Fprintf(&out, `<path d="M%d %.1fH%d" class="grid"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`,
			left, y(v), left+wide, left-6, y(v)+4, html.EscapeString(show(v)))
	}
	for _, m := range marks {
		fmt.Fprintf(&out, `<path d="M%.1f %dV%d" class="grid"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`,
			x(m.at), top, top+high, x(m.at), top+high+16, html.EscapeString(m.label))
	}
	for i, c := range curves {
		var path strings.Builder
		for j, p := range c.points {
			command := "L"
			if j == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, x(p.x), y(p.y))
		}
		fmt.Fprintf(&out, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`, path.String(), c.colour)
		fmt.Fprintf(&out, `<rect x="%d" y="%d" width="10" height="10" fill="%s"/><text x="%d" y="%d">%s</text>`,
			left+wide+10, top+18*i, c.colour, left+wide+24, top+18*i+9, html.EscapeString(c.label))
	}
	out.WriteString("</svg>\n")
	return out.String()
}

// axis returns the lowest and the highest value of the vertical axis and the values to label. There
// are no values to label if the curves have no points.
func axis(logarithmic bool, curves []curve) (lo, hi float64, ticks []float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, c := range curves {
		for _, p := range c.points {
			if p.y > 0 || !logarithmic {
				lo, hi = min(lo, p.y), max(hi, p.y)
			}
		}
	}
	if math.IsInf(lo, 1) {
		return lo, hi, nil
	}
	if logarithmic {
		lo, hi = math.Pow(10, math.Floor(math.Log10(lo))), math.Pow(10, math.Ceil(math.Log10(hi*1.0001)))
		for v := lo; v <= hi*1.001; v *= 10 {
			ticks = append(ticks, v)
		}
	} else {
		step := niceStep(hi / 4)
		lo, hi = 0, step*math.Ceil(hi/step)
		for v := 0.0; v <= hi*1.001; v += step {
			ticks = append(ticks, v)
		}
	}
	if hi == lo {
		hi = lo + 1
	}
	return lo, hi, ticks
}

// niceStep returns the smallest number that is 1, 2 or 5 times a power of ten and not below v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}
