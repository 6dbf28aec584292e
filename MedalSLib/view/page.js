// What may not wait for the server: keys, the brush's ring and stroke, and many turns of the wheel as one jump.
// The stroke is a drawing over the view, in the colour of its segment; the picture with the real paint replaces it.
(() => {
  const get = (name) => window.trame?.state.get(name);
  const ring = document.createElement("div");
  ring.style.cssText =
    "position: fixed; pointer-events: none; border: 1px solid white; border-radius: 50%; transform: translate(-50%, -50%)";
  ring.id = "ring";
  ring.hidden = true;
  document.body.append(ring);
  let stroke = null; // the drawing's context while the button is down
  let turned = 0; // slices that the wheel has asked for and the server has not been told of
  let telling = 0;

  const canvases = () => [...document.querySelectorAll("canvas.stroke")];
  const sliceAt = (target) =>
    target.closest?.(".remote-controlled-area") && canvases().find((one) => one.parentElement.contains(target));
  const paints = () => get("tool") && get("selected") && !get("busy");
  const width = (canvas) => (get("diameter") / get(`slice_${canvas.dataset.view}`).width) * canvas.clientWidth;

  function showRing(event) {
    const canvas = paints() && get("tool") !== "lasso" && sliceAt(event.target);
    ring.hidden = !canvas;
    if (!canvas) return;
    ring.style.width = ring.style.height = `${width(canvas)}px`;
    ring.style.left = `${event.clientX}px`;
    ring.style.top = `${event.clientY}px`;
  }

  function draw(event) {
    const area = stroke.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - area.left, event.clientY - area.top];
    stroke.lineTo(x, y);
    stroke.stroke();
    if (get("tool") === "lasso") return; // one line, which is closed and filled at last
    stroke.beginPath();
    stroke.arc(x, y, stroke.lineWidth / 2, 0, 7); // a line without length is not drawn
    stroke.fill();
    stroke.beginPath();
    stroke.moveTo(x, y);
  }

  function press(event) {
    const canvas = event.button === 0 && paints() && sliceAt(event.target);
    if (!canvas) return;
    [canvas.width, canvas.height] = [canvas.clientWidth, canvas.clientHeight];
    stroke = canvas.getContext("2d");
    stroke.lineCap = stroke.lineJoin = "round";
    stroke.lineWidth = get("tool") === "lasso" ? 2 : width(canvas);
    const colour = get("rows").find((row) => row.key === get("selected"))?.color;
    stroke.strokeStyle = stroke.fillStyle = (get("tool") !== "erase" && colour) || "black";
    draw(event);
  }

  function release() {
    if (stroke && get("tool") === "lasso") stroke.fill();
    stroke = null;
  }

  // The server counts a stroke when all of it is painted, and sends a picture after the count.
  function forget() {
    for (const canvas of canvases()) {
      const image = canvas.parentElement.querySelector("img");
      image?.addEventListener("load", () => stroke?.canvas === canvas || (canvas.width = 0), { once: true });
    }
  }

  function turn(event) {
    const canvas = !event.ctrlKey && sliceAt(event.target);
    if (!canvas) return;
    event.stopPropagation();
    turned -= Math.abs(event.deltaY) < 40 ? event.deltaY / 40 : Math.sign(event.deltaY);
    telling ||= requestAnimationFrame(() => {
      const steps = Math.trunc(turned);
      turned -= steps;
      telling = 0;
      if (steps) window.trame.trigger("medals_scroll", [canvas.dataset.view, steps]);
    });
  }

  function key(event) {
    if (event.target.matches("input, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    window.trame?.trigger("medals_key", [event.key]);
  }

  const listen = (name, act) => window.addEventListener(name, act, { capture: true, passive: true });
  listen("keydown", key);
  listen("wheel", turn);
  listen("mousedown", press);
  listen("mouseup", release);
  listen("mousemove", (event) => {
    showRing(event);
    if (stroke && event.buttons & 1) draw(event);
  });
  const begin = () => (window.trame ? window.trame.state.watch(["strokes"], forget) : setTimeout(begin, 50));
  begin();
})();
