import { useEffect, useId, useRef } from 'react';
import { useTexts } from '../i18n/index.js';
import { Icon } from './Icon.jsx';
import './dialog.css';

/** A modal dialog that is open as long as it is drawn. */
export function Dialog({ title, onClose, side = false, children }) {
  const { t } = useTexts();
  const dialog = useRef(null);
  const id = useId();

  useEffect(() => {
    const element = dialog.current;
    if (!element.open) element.showModal();
  }, []);

  // A click on the backdrop is a click on the dialog itself; its content fills it.
  const closeOutside = (event) => event.target === dialog.current && dialog.current.close();

  return (
    <dialog ref={dialog} className={side ? 'dialog side' : 'dialog'} aria-labelledby={id} onClose={onClose} onClick={closeOutside}>
      <div className="dialog-content">
        <div className="dialog-head">
          <h2 id={id}>{title}</h2>
          <button type="button" className="tool" onClick={() => dialog.current.close()} aria-label={t('action.close')}>
            <Icon name="close" />
          </button>
        </div>
        {children}
      </div>
    </dialog>
  );
}
